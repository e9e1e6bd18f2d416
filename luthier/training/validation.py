"""The loss on rows that are not trained on, and when to stop because of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from luthier.training.config import TrainingConfig

#: Evaluations in a stage whose task does not say how often.
_EVALUATIONS = 10


class Stopping:
    """Early stopping (Prechelt 1998, "Early stopping - but when?"): training ends when `patience`
    evaluations in a row brought no validation loss below the best, and the best weights come back.

    Args:
        config: `patience` (None for never stopping, only measuring) and `evaluate_every`.
        steps: of the whole stage.

    Attributes:
        curve: (step, validation loss in nats per trained token) of every evaluation.
        best: the entry of the curve with the lowest loss.
    """

    def __init__(self, config: TrainingConfig, steps: int) -> None:
        self.patience = config.patience
        self.every = config.evaluate_every or max(1, steps // _EVALUATIONS)
        self.steps = steps
        self.curve: list[tuple[int, float]] = []
        self.best: tuple[int, float] | None = None
        self._weights: dict[str, torch.Tensor] = {}

    def due(self, step: int) -> bool:
        """Whether to evaluate after `step` steps: every so often, and at the end."""
        return step % self.every == 0 or step == self.steps

    @torch.no_grad()
    def take(self, step: int, loss: float, masters: Mapping[str, torch.Tensor]) -> bool:
        """Take a validation loss; whether to stop. Weights are copied when they are the best, to
        the CPU, where they do not stand in the way."""
        self.curve.append((step, loss))
        if math.isfinite(loss) and (self.best is None or loss < self.best[1]):
            self.best = (step, loss)
            if self.patience is not None:
                self._weights = {
                    name: value.detach().to("cpu", copy=True) for name, value in masters.items()
                }
        if self.patience is None:
            return False
        since = sum(at > self.best[0] for at, _ in self.curve) if self.best else len(self.curve)
        return since >= self.patience

    @torch.no_grad()
    def restore(self, masters: Mapping[str, torch.Tensor]) -> bool:
        """Put the best weights back; False when the last ones are the best, or none were kept."""
        if self.best is None or not self._weights or self.best[0] == self.curve[-1][0]:
            return False
        for name, value in masters.items():
            value.copy_(self._weights[name])
        return True

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint stores of it."""
        return {f"best.{name}": value for name, value in self._weights.items()}

    def state(self) -> dict[str, Any]:
        """What a checkpoint's plain values hold of it."""
        # a loss that is not finite is no JSON
        return {
            "validation": [[at, loss if math.isfinite(loss) else None] for at, loss in self.curve],
            "best": self.best,
        }

    def load(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """The inverse of `tensors` and `state`."""
        self.curve = [
            (int(at), math.inf if loss is None else float(loss)) for at, loss in state["validation"]
        ]
        best = state["best"]
        self.best = (int(best[0]), float(best[1])) if best else None
        start = len("best.")
        self._weights = {
            name[start:]: value for name, value in tensors.items() if name.startswith("best.")
        }
