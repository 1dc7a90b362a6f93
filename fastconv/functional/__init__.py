"""The public functions: a file for each kind of operation."""
