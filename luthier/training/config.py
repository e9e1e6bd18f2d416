"""What a training stage does, every value decided: the task's wishes, else defaults that depend on
the method, the model's width and the number of examples."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.errors import InputError
from luthier.task_training import Replay, Training
from luthier.training.method import METHODS, VIRTUAL_TOKENS


class TrainingConfig(BaseModel):
    """One training stage, fully decided. Steps are optimiser steps; batch_size counts examples.

    Attributes:
        method: a name in METHODS.
        objective: a name in OBJECTIVES.
        pooling: of a classification head; None for what suits the model.
        layer_decay, unfreeze: which layers are trained how fast and when (`layerwise.py`).
        targets: last parts of the names of the layers that low-rank methods adapt; None for all.
        layers: how many of the last layers are trained; None for methods that do not choose.
        virtual_tokens: positions of a soft prompt, for the methods that train one.
        micro_tokens: padded tokens computed at once; a batch beyond it is split, which changes
            memory and nothing else.
        checkpoint_every: optimiser steps between checkpoints; 0 for none.
        keep_checkpoints: how many of them are kept while the stage is under way.
        evaluate_every: optimiser steps between validation losses; None for a tenth of the stage.
        patience: evaluations without a better validation loss before training stops; None for
            training to the end.
        gradient_checkpointing: compute activations again in the backward pass (`recompute.py`).
        fused: run the layers by hand-written passes where that is possible (`fused/`).
        order: "given" where the examples were put in an order for the whole stage.
        replay, l2_sp, wise_ft: remedies for forgetting (`remedies/`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = "lora"
    learning_rate: float = Field(gt=0)
    epochs: float = Field(gt=0)
    batch_size: int = Field(default=8, ge=1)
    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    targets: tuple[str, ...] | None = None
    layers: int | None = Field(default=None, ge=1)
    virtual_tokens: int = Field(default=VIRTUAL_TOKENS, ge=1)
    dropout: float = 0.0
    weight_decay: float = 0.0
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    objective: str = "sft"
    loss_on: Literal["completion", "assistant", "all"] = "completion"
    pooling: Literal["mean", "first", "last", "pooler"] | None = None
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    unfreeze: Literal["all", "gradual"] = "all"
    max_tokens: int = Field(ge=8)
    overlong: Literal["error", "drop", "cut"] = "error"
    checkpoint_every: int = 50
    keep_checkpoints: int = Field(default=2, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)
    patience: int | None = Field(default=None, ge=1)
    gradient_checkpointing: bool = False
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    micro_tokens: int = Field(default=1536, ge=1)
    fused: bool = True
    order: Literal["shuffled", "given"] = "shuffled"
    replay: Replay | None = None
    l2_sp: float = Field(default=0.0, ge=0)
    wise_ft: float | Literal["auto"] | None = None
    seed: int = 0


#: Padded tokens computed at once on a GPU, which smaller ones leave idle.
_MICRO_TOKENS_ON_GPU = 16_384


def default_epochs(examples: int) -> float:
    """Passes over the data: more when there is little of it."""
    return 3 if examples < 1500 else 2 if examples < 5000 else 1


def refuse_ignored(wishes: Training, methods: Collection[str]) -> None:
    """Refuse keys of the training section that none of the methods would read.

    Args:
        wishes: the task's training section.
        methods: names in METHODS: those that are going to train.

    Raises:
        InputError: a key that only other methods read.
    """
    readers: dict[str, list[str]] = {}
    for name, method in METHODS:
        for key in method.reads:
            readers.setdefault(key, []).append(name)
    for key, names in sorted(readers.items()):
        given = getattr(wishes, key) != Training.model_fields[key].default
        if given and methods and not set(methods) & set(names):
            raise InputError(
                f"`training.{key}` is read by {', '.join(names)}, and not by "
                f"{', '.join(sorted(methods))}.",
                fix="Take it out, or choose a method that reads it.",
            )


def decide(
    wishes: Training,
    *,
    method: str,
    examples: int,
    hidden_size: int,
    context_length: int,
    bfloat16: bool,
    seed: int,
    layers: int | None = None,
    gpu: bool = False,
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
        layers: how many the model has, where that is known.
        gpu: whether the model is trained on one.

    Raises:
        InputError: `training.max_tokens` is more than the model reads.
    """
    tuning = METHODS.get(method)()
    context_length -= tuning.positions(wishes)
    if wishes.max_tokens is not None and wishes.max_tokens > context_length:
        raise InputError(
            f"`training.max_tokens` is {wishes.max_tokens}, and the model reads at most "
            f"{context_length} tokens.",
            fix="Lower it, or leave it out.",
        )
    given = {
        key: value
        for key, value in wishes.model_dump().items()
        # what remedies read of the section is not the loop's
        if value is not None and key != "precision" and key in TrainingConfig.model_fields
    }
    precision = wishes.precision
    if precision == "auto":
        precision = "bfloat16" if bfloat16 else "float32"
    rank = wishes.rank or 16
    defaults = {
        "learning_rate": tuning.learning_rate(hidden_size),
        "epochs": default_epochs(examples) * tuning.passes,
        "alpha": tuning.alpha(rank),
        "layers": tuning.layers(layers) if layers else None,
        "max_tokens": context_length,
        **({"micro_tokens": _MICRO_TOKENS_ON_GPU} if gpu else {}),
    }
    decided = TrainingConfig(
        **{**defaults, **given, "method": method, "precision": precision, "seed": seed}
    )
    if decided.l2_sp * decided.learning_rate >= 1:
        raise InputError(
            f"`training.l2_sp` {decided.l2_sp:g} times the learning rate {decided.learning_rate:g} "
            "is not below 1: every step would overshoot the start.",
            fix=f"Lower it; {0.1 / decided.learning_rate:.0f} is already strong.",
        )
    return decided
