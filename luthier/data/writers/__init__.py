"""One file for each kind of file that rows are written to."""
