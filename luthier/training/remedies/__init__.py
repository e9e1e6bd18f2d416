"""Remedies for forgetting: replayed rows, a pull back to the start, averaging with the base."""
