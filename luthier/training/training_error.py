"""What the training loop and its parts say when they cannot go on."""

from __future__ import annotations

from luthier.errors import LuthierError


class TrainingError(LuthierError):
    """Training that cannot go on: nothing to learn from, numbers that left the finite or a loss
    that left the track, no memory."""
