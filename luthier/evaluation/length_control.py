"""Win rates at equal length: what is left of a lead when longer answers get no credit for length.

A logistic regression of winning on the difference in length, as in length-controlled AlpacaEval
(Dubois et al. 2024): logit P(win) = a + b tanh(d / s), d being the difference in characters and s
its root mean square. A tie is half a win. At d = 0 it says 1 / (1 + exp(-a)).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.evaluation.scoring import Array
from luthier.evaluation.statistics import (
    RESAMPLES,
    Interval,
    cluster_codes,
    expanded_interval,
    resampled_weights,
)

_STEPS = 12
#: A win and a loss at equal length, together one row: a judge that always prefers the same side
#: has no finite estimate without.
_PRIOR = 0.5


@dataclass(frozen=True)
class Controlled:
    """A win rate at equal length.

    Attributes:
        win_rate: at equal length.
        interval: its 95 % bootstrap interval.
        length_effect: b above; what a much longer answer gains in log-odds.
    """

    win_rate: float
    interval: Interval
    length_effect: float


def at_equal_length(
    wins: Array,
    longer_by: Array,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES // 5,
    clusters: Sequence[Hashable] | None = None,
) -> Controlled:
    """The win rate of answers that were as long as their opponents.

    Args:
        wins: 1, 0.5 or 0 for each row, (n,).
        longer_by: characters an answer is longer than its opponent, (n,).
        seed: of the bootstrap.
        resamples: of the bootstrap; each is a regression.
        clusters: an id for each row; rows of one cluster are drawn together.
    """
    scale = float(np.sqrt(np.mean(longer_by**2))) or 1.0
    length = np.tanh(longer_by / scale)
    found = _fit(wins, length, np.ones((1, len(wins))))[0]
    of_row = cluster_codes(range(len(wins)) if clusters is None else clusters, len(wins))
    units = max(of_row) + 1
    drawn = [
        _rate(_fit(wins, length, weights[:, of_row])[:, 0])
        for weights in resampled_weights(units, resamples, seed, len(wins))
    ]
    return Controlled(
        win_rate=float(_rate(found[0])),
        interval=expanded_interval(np.concatenate(drawn), units),
        length_effect=float(found[1]),
    )


def _rate(log_odds: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def _fit(wins: Array, length: Array, weights: Array) -> Array:
    """Coefficients (a, b) of each weighting of the rows, (draws, 2), by Newton's method."""
    found = np.zeros((len(weights), 2))
    for _ in range(_STEPS):
        rate = _rate(found[:, :1] + found[:, 1:] * length)
        rest, slope = weights * (wins - rate), weights * rate * (1 - rate)
        at_zero = _rate(found[:, 0])
        gradient = np.stack(
            [rest.sum(1) + _PRIOR * (1 - 2 * at_zero), rest @ length - _PRIOR * found[:, 1]], 1
        )
        a = slope.sum(1) + 2 * _PRIOR * at_zero * (1 - at_zero)
        b, c = slope @ length, slope @ length**2 + _PRIOR
        step = np.stack(
            [c * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]], 1
        )
        found += np.clip(step / np.maximum(a * c - b * b, 1e-12)[:, None], -4, 4)
    return found
