"""Extraction: given what comes before, would the model write the rest of a training row?

The last fifty tokens of an answer, or all of a shorter one, are looked at with what comes before
them; they are extracted where each is the likeliest token in its place, which is what greedy
decoding follows. That alone accuses nobody: what is easy is written by every model. So it counts
how surprising the tokens are to the model before it was tuned, without those that stand in other
rows or in the question too, and scaled by how far tuning made held-out rows less surprising. Luck
meets such a target with a chance of 2^-bits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Tokens of the prefix and of the target, as in Carlini et al. 2023.
TOKENS = 50
#: Tokens in a row that make a piece of text one that was seen elsewhere.
WINDOW = 5
#: A text is known by heart where more than this share of what the task leaves of it to guess is
#: known: more is known of it than not. What a model holds of a text beyond what it knows of texts
#: of this kind is the "unintended memorization" of Morris et al. 2025, arXiv 2505.24832, in bits.
HALF = 0.5
#: Held-out rows that the scale needs.
LEAST_HELD_OUT = 20


@dataclass(frozen=True, eq=False)
class Target:
    """One target, scored.

    Attributes:
        base_bits: surprise of each token to the untuned model, (n,), bits.
        tuned_bits: to the tuned model, (n,), bits.
        own: whether a token stands in no other row and not in the question, (n,) of bool.
        matched: whether the tuned model would write the target.
        base_matched: whether the untuned one would.
        name: where the row was read.
    """

    base_bits: Array
    tuned_bits: Array
    own: NDArray[np.bool_]
    matched: bool
    base_matched: bool
    name: str = ""

    def by_heart(self, scale: float) -> bool:
        """Whether it came with tuning, and is known rather than guessed.

        Args:
            scale: the share of its bits that the task leaves of a token, see `held_out_scale`.
        """
        left = float(self.tuned_bits[self.own].sum())
        task = scale * float(self.base_bits[self.own].sum())
        return self.matched and not self.base_matched and left <= (1 - HALF) * task


def target_start(tokens: int) -> int:
    """Where the target begins in an answer of so many tokens: behind a prefix of fifty where that
    leaves a target of fifty, else so that the target is the last fifty, or all there are."""
    return min(TOKENS, max(0, tokens - TOKENS))


def windows(ids: Sequence[int]) -> set[tuple[int, ...]]:
    """All runs of `WINDOW` tokens; of fewer tokens the whole."""
    size = min(WINDOW, len(ids))
    return {tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)} if size else set()


def own_tokens(ids: Sequence[int], *elsewhere: Collection[tuple[int, ...]]) -> NDArray[np.bool_]:
    """For each token of a target, whether no run of tokens around it is in any of `elsewhere`."""
    own = np.ones(len(ids), dtype=bool)
    size = min(WINDOW, len(ids))
    for start in range(len(ids) - size + 1 if size else 0):
        run = tuple(ids[start : start + size])
        if any(run in seen for seen in elsewhere):
            own[start : start + size] = False
    return own


def held_out_scale(held_out: Sequence[Target]) -> float | None:
    """The share of its bits that a token keeps which tuning taught nothing of but the task.

    It is the share that held-out rows keep of all their tokens, which are easier than those that no
    training row has; or, where it is less, that of the held-out row whose new tokens (five or more)
    became most predictable. At most 1; None where there are too few rows to tell.
    """
    if len(held_out) < LEAST_HELD_OUT:
        return None
    parts = [(one.tuned_bits[one.own], one.base_bits[one.own]) for one in held_out]
    parts = [part for part in parts if len(part[0]) >= WINDOW]
    parts.append(
        (
            np.concatenate([one.tuned_bits for one in held_out]),
            np.concatenate([one.base_bits for one in held_out]),
        )
    )
    shares = [float(tuned.sum() / base.sum()) for tuned, base in parts if base.sum() > 0]
    return min(1.0, *shares) if shares else None


def chance_of(target: Target, scale: float, tried: int) -> float:
    """How likely a target would be met by luck, at most, among so many that were tried."""
    bits = scale * float(target.base_bits[target.own].sum())
    return float(min(1.0, tried * 2.0**-bits))


def extracted(members: Sequence[Target], held_out: Sequence[Target]) -> dict[str, Any]:
    """What can be taken out of the model.

    Args:
        members: targets of training rows.
        held_out: of rows from the same source that it was not trained on.

    Returns:
        {"tried", "whole", "extracted", "before", "held_out", "p", "rows"}: how many targets, how
        many of them of fifty tokens, how many the tuned and the untuned model would write, the
        share among held-out rows, the p of the least likely one of those that are known by heart
        (None where held-out rows are too few), and the rows whose own p is below 0.05.
    """
    scale = held_out_scale(held_out)
    chances: list[tuple[float, str]] = []
    if scale is not None:
        chances = [
            (chance_of(one, scale, len(members)), one.name)
            for one in members
            if one.by_heart(scale)
        ]
    return {
        "tried": len(members),
        "whole": sum(len(one.base_bits) == TOKENS for one in members),
        "extracted": sum(one.matched for one in members),
        "before": sum(one.base_matched for one in members),
        "held_out": round(float(np.mean([o.matched for o in held_out])), 4) if held_out else None,
        "p": None if scale is None else min((p for p, _ in chances), default=1.0),
        "rows": [name for p, name in sorted(chances) if p < 0.05][:5],
    }
