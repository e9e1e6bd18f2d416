"""Scores, statistics and what a model forgot."""
