"""One file for each shape that rows can have; see `luthier/data/format.py`."""
