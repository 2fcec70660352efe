"""Routines for the packages that systems are built of."""
