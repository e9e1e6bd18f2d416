"""One file for each objective: what a batch is and what its loss is."""
