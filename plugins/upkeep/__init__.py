"""Scheduled maintenance of whole applications on Apache Airflow."""

__version__ = "0.1.0"
