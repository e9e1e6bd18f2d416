"""What a training stage does, every value decided: the task's wishes, else defaults that depend on
the method, the model's width and the number of examples."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.errors import InputError
from luthier.task import Training
from luthier.training.method import METHODS


class TrainingConfig(BaseModel):
    """One training stage, fully decided. Steps are optimiser steps; batch_size counts examples.

    Attributes:
        method: a name in METHODS.
        micro_tokens: padded tokens computed at once; a batch beyond it is split, which changes
            memory and nothing else.
        checkpoint_every: optimiser steps between checkpoints; 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = "lora"
    learning_rate: float = Field(gt=0)
    epochs: float = Field(gt=0)
    batch_size: int = Field(default=8, ge=1)
    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = 0.0
    weight_decay: float = 0.0
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    loss_on: Literal["completion", "all"] = "completion"
    max_tokens: int = Field(ge=8)
    overlong: Literal["error", "drop", "cut"] = "error"
    checkpoint_every: int = 50
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    micro_tokens: int = 1024
    seed: int = 0


def default_epochs(examples: int) -> float:
    """Passes over the data: more when there is little of it."""
    return 3 if examples < 1500 else 2 if examples < 5000 else 1


def decide(
    wishes: Training,
    *,
    method: str,
    examples: int,
    hidden_size: int,
    context_length: int,
    bfloat16: bool,
    seed: int,
) -> TrainingConfig:
    """Fill in what the task leaves open.

    Args:
        wishes: the task's training section.
        method: a name in METHODS.
        examples: how many there are to learn from.
        hidden_size: the model's width.
        context_length: tokens the model reads at most.
        bfloat16: whether this machine is faster in it.
        seed: decides order and initial values.

    Raises:
        InputError: `training.max_tokens` is more than the model reads.
    """
    if wishes.max_tokens is not None and wishes.max_tokens > context_length:
        raise InputError(
            f"`training.max_tokens` is {wishes.max_tokens}, and the model reads at most "
            f"{context_length} tokens.",
            fix="Lower it, or leave it out.",
        )
    given = {
        key: value
        for key, value in wishes.model_dump().items()
        if value is not None and key != "precision"
    }
    precision = wishes.precision
    if precision == "auto":
        precision = "bfloat16" if bfloat16 else "float32"
    rank = wishes.rank or 16
    defaults = {
        "learning_rate": METHODS.get(method)().learning_rate(hidden_size),
        "epochs": default_epochs(examples),
        "alpha": 2.0 * rank,
        "max_tokens": context_length,
    }
    return TrainingConfig(
        **{**defaults, **given, "method": method, "precision": precision, "seed": seed}
    )
