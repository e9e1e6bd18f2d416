"""One file for each format that rows can be read from."""
