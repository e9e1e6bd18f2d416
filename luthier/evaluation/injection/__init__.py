"""Hostile documents, and whether a reader of theirs does what they demand."""
