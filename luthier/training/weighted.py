"""Losses of tokens that do not all count the same (`Message.weight`).

The loss of a step is then the weighted sum of its tokens' losses divided by the sum of their
weights. The sum of a micro-batch is taken for the tokens of each weight apart, by the same chunked
cross-entropy that plain tokens go through, so nothing of it is written twice; conversations have
few different weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from luthier.training.losses import IGNORED, next_token_loss


def chosen_weights(
    weights: Sequence[Sequence[float] | None], targets: Sequence[Sequence[int]]
) -> torch.Tensor | None:
    """The weights (m,) of all tokens that carry loss, row after row, float32; None where all are 1.

    Args:
        weights: of each row one for each target; None for 1 everywhere.
        targets: of each row, IGNORED where there is no loss.
    """
    if all(row is None for row in weights):
        return None
    flat = [
        1.0 if row is None else row[place]
        for row, goals in zip(weights, targets, strict=True)
        for place, goal in enumerate(goals)
        if goal != IGNORED
    ]
    return torch.tensor(flat)


def weighted_loss(
    model: Any, hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None
) -> torch.Tensor:
    """sum_i weights_i * cross-entropy_i, a float32 scalar.

    Args:
        model: whose head it is.
        hidden: (m, d).
        targets: (m,) ids.
        weights: (m,), on any device, or None for 1 everywhere.
    """
    if weights is None:
        return next_token_loss(model, hidden, targets)
    losses = []
    for weight in sorted(set(weights.tolist())):
        same = (weights == weight).to(targets.device)
        losses.append(weight * next_token_loss(model, hidden[same], targets[same]))
    return torch.stack(losses).sum()
