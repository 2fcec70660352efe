"""One outside thing per file; each turns what can go wrong with it into `core.errors`."""
