"""Which models there are, how they get here, and what this machine can do with them."""
