"""Routines about backups."""
