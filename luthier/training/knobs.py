"""Which settings of training are tried, and between what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError

if TYPE_CHECKING:
    from luthier.task_training import Training
    from luthier.training.config import TrainingConfig


@dataclass(frozen=True)
class Knob:
    """What one setting may be.

    Attributes:
        kind: "log" (between low and high, on a logarithmic scale), "int" (low to high) or "one of".
    """

    kind: str
    default: Any
    low: float = 0
    high: float = 0
    options: tuple[Any, ...] = ()


def knobs(
    wishes: Training, config: TrainingConfig, *, reads: frozenset[str], examples: int
) -> dict[str, Knob]:
    """What may be tried: every setting that the task's training section leaves open.

    Args:
        wishes: the task's training section; what it gives stays as given.
        config: the default configuration.
        reads: keys that the tuning method reads besides those that every method does.
        examples: how many there are to learn from.

    Raises:
        InputError: the section gives everything that could be tried.
    """
    rate = config.learning_rate
    # a pull back to the start overshoots where it is stronger than 1 / rate (training/config.py)
    highest = min(10 * rate, 0.5 / config.l2_sp) if config.l2_sp else 10 * rate
    epochs = max(1, round(config.epochs))
    found = {
        "learning_rate": Knob("log", rate, rate / 10, max(rate, highest)),
        "epochs": Knob("int", epochs, 1, max(3, 2 * epochs)),
        "batch_size": _one_of(config.batch_size, [n for n in (4, 8, 16, 32) if n <= examples]),
    }
    if "rank" in reads:
        found["rank"] = _one_of(config.rank, (4, 8, 16, 32, 64))
    if "virtual_tokens" in reads:
        found["virtual_tokens"] = _one_of(config.virtual_tokens, (5, 10, 20, 50))
    left = {key: knob for key, knob in found.items() if getattr(wishes, key) is None}
    if not left:
        raise InputError(
            "There is nothing to try: the training section gives "
            f"{', '.join(f'`{key}`' for key in found)}.",
            fix="Leave one of them out, or take out `tune`.",
        )
    return left


def _one_of(default: Any, others: Sequence[Any]) -> Knob:
    return Knob("one of", default, options=tuple(sorted({default, *others})))
