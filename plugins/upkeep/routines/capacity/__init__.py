"""Growth and capacity."""
