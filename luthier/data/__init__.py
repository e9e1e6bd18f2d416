"""Rows in: readers, row templates, lints and splits."""
