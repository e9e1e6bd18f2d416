"""Kinds of judge, one file each; see `luthier.evaluation.judging`."""
