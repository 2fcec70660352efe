"""Routines about services."""
