"""Nouns and decisions: no input or output, no clock, no logging, nothing of Airflow."""
