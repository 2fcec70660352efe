"""What speaks Airflow at run time."""
