"""What a site adds to airflow-upkeep without touching it."""
