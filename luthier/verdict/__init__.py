"""The decision and the report."""
