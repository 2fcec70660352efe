"""The embedded lab: real servers with believable data and planted faults, on loopback ports of this machine only.

Nothing here imports Airflow or the package under test: the lab is what they are tried on.
"""
