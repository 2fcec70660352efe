"""Log files: rotated, and read."""
