"""Routines that bring back what was lost, and that show that it can be done."""
