"""One file is one way of choosing what is trained."""
