"""Batches, objectives, the optimiser, the loop and its checkpoints."""
