"""Which models there are, how they get here, and what this machine can do with them."""

import os

# oneDNN keeps what it has compiled for a matrix product of each size: by default of 1,024 sizes, at
# about half a megabyte. Steps of training repeat few of them (480 rows: 2.65 GB, 2.39 with 256, at
# the same speed).
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
