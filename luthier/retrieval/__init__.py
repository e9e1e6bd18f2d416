"""Documents to an index, and from there to passages with citations."""
