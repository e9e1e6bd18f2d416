"""What an arm costs: the spread of its answers, what it stores, and when it pays against another.

Costs are machine seconds, or money where the task gives prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from luthier.task_sections import Prices

#: What a row of predictions.jsonl says an answer took.
_TAKEN = ("seconds", "prompt_tokens", "completion_tokens")


@dataclass(frozen=True)
class Spending:
    """What an arm costs once, and for each answer; both in the same unit."""

    training: float
    each: float

    def after(self, answers: float) -> float:
        """The total of so many answers."""
        return self.training + answers * self.each


@dataclass(frozen=True)
class BreakEven:
    """For how many answers one arm costs less in all than another.

    Attributes:
        when: "from" and "up to" a number of answers, "always", "never", or "the same".
        answers: that number; None for the others.
    """

    when: Literal["from", "up to", "always", "never", "the same"]
    answers: float | None = None


def break_even(one: Spending, other: Spending) -> BreakEven:
    """When `one` costs less than `other`: the totals meet at N = (difference of what is paid once)
    / (difference per answer)."""
    more, saved = one.training - other.training, other.each - one.each
    if more == 0 and saved == 0:
        return BreakEven("the same")
    if more <= 0 and saved >= 0:
        return BreakEven("always")
    if more >= 0 and saved <= 0:
        return BreakEven("never")
    return BreakEven("from" if saved > 0 else "up to", max(1.0, more / saved))


def has_prices(prices: Prices) -> bool:
    """Whether any price is given."""
    return any(value is not None for _, value in prices)


def spending(costs: Mapping[str, Any], prices: Prices | None = None) -> Spending | None:
    """What an arm spends; None where its times are not known.

    Args:
        costs: train_seconds, seconds_per_answer, prompt_tokens_per_answer and
            completion_tokens_per_answer, as in arm.json.
        prices: the user's; seconds when None or empty. What has no price costs nothing.
    """
    training, each = costs.get("train_seconds"), costs.get("seconds_per_answer")
    if training is None or each is None:
        return None
    if prices is None or not has_prices(prices):
        return Spending(float(training), float(each))
    hour = prices.per_hour or 0.0
    tokens = (
        (prices.per_million_prompt_tokens, costs.get("prompt_tokens_per_answer")),
        (prices.per_million_completion_tokens, costs.get("completion_tokens_per_answer")),
    )
    if any(price and count is None for price, count in tokens):
        return None
    written = sum((price or 0.0) * float(count or 0.0) / 1e6 for price, count in tokens)
    return Spending(hour * float(training) / 3600, hour * float(each) / 3600 + written)


def spread(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float] | None]:
    """`{"seconds": {"p50", "p95"}, "prompt_tokens": ..., "completion_tokens": ...}` of an answer;
    None where rows do not say it."""
    found: dict[str, dict[str, float] | None] = {}
    for key in _TAKEN:
        values = [row.get(key) for row in rows]
        known = [float(v) for v in values if isinstance(v, int | float)]
        if not known or len(known) < len(values):
            found[key] = None
            continue
        middle, high = np.quantile(known, (0.5, 0.95))
        found[key] = {"p50": float(middle), "p95": float(high)}
    return found


def stored_bytes(folder: Path) -> int:
    """Bytes of all files in a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
