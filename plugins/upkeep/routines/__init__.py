"""One module per routine, one folder per area. Routines import `core` only."""
