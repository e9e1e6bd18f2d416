"""What a training objective is. One file in `objectives/` is one objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from luthier.registry import Registry


class TrainingItem(Protocol):
    """Whatever an objective trains on; the loop needs its length and its weight."""

    @property
    def length(self) -> int:
        """Tokens, padding not counted."""

    @property
    def weight(self) -> int:
        """What it adds to the divisor of the step's loss."""


class Objective(Protocol):
    """Turns items into a summed loss; the loop divides by the weight of the whole step."""

    def sizes(self, items: Sequence[Any]) -> list[int]:
        """How many tokens each item adds to what a micro-batch computes."""

    def loss(self, model: Any, items: Sequence[Any]) -> torch.Tensor:
        """The sum of the losses of the items, a scalar with a gradient."""


OBJECTIVES: Registry[type] = Registry("objective", "luthier.training.objectives")
