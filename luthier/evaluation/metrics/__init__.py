"""One file for each metric, or family of metrics that share their counts."""
