"""What can be found, one detector a file."""
