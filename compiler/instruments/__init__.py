"""Watching passes on the terminal: one file an instrument, and one table of options for both command lines."""
