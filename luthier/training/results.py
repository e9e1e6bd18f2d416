"""What the training loop reports: one step, and the whole stage."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did. Loss is the mean over trained tokens, in nats.

    Attributes:
        grad_norm: of all gradients, before clipping.
        tokens: read since training began, padding not counted.
        seconds: since training began, what went before an interruption included.
        tokens_per_second: of this step alone.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float
    tokens_per_second: float = 0.0

    @property
    def words(self) -> str:
        """The step in a few words, to stand beside a progress bar. The speed is that of the whole
        stage: single steps differ by the length of their rows."""
        return (
            f"loss {self.loss:.3f} | rate {self.learning_rate:.1e} | gradient "
            f"{self.grad_norm:.2g} | {self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s"
        )


@dataclass
class Trained:
    """What a stage of training came to.

    Attributes:
        steps: optimiser steps taken.
        tokens: tokens read, padding not counted, repeats in later epochs counted.
        seconds: the loop's wall time, what went before an interruption included.
        final_loss: of the last step.
        curve: (step, loss) of every step.
        weights: name -> float32 values of the trained parameters.
        validation: (step, validation loss) of every evaluation.
        best_step: the step whose weights these are, where patience decided that.
    """

    steps: int
    tokens: int
    seconds: float
    final_loss: float
    curve: list[tuple[int, float]]
    weights: dict[str, torch.Tensor]
    notes: list[str] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
