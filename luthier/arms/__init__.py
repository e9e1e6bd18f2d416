"""One file for each way of doing the task."""
