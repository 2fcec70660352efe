"""The pages behind the views that the plugin adds to Airflow."""
