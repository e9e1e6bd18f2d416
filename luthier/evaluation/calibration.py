"""Whether an arm knows when it is right: calibration, and answering only what it is surest of.

The expected calibration error of few rows is never 0: with 200 rows an arm that is right exactly as
often as it says has about 0.08 (and 0.15 with 50), as each bin's share of right answers scatters.
So what chance gives is said beside it, from answers drawn by the arm's own confidence.

References:
    Guo et al. 2017, "On Calibration of Modern Neural Networks" (expected calibration error);
    Broecker & Smith 2007, "Increasing the Reliability of Reliability Diagrams" (what chance gives);
    Geifman & El-Yaniv 2017, "Selective Classification for Deep Neural Networks".
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation.statistics import Interval, paired_bootstrap, wilson_interval

Array = NDArray[np.float64]

BINS = 15
#: The share of answers that `Calibration.kept` speaks of.
KEPT = 0.8
#: Draws of what chance gives.
_DRAWS = 500
#: Points of the curve that are written down.
_POINTS = 20


@dataclass(frozen=True)
class Bin:
    """Answers whose confidence lies in (low, high]: how many, mean confidence, share right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How confidence and being right go together.

    Attributes:
        ece: expected calibration error, sum over bins of n / N |accuracy - confidence|.
        by_chance: (mean, 95 % quantile) of the same of an arm with these confidences that is right
            as often as it says; None where answers are not just right or wrong.
        confidence: the mean confidence.
        accuracy: the share that is right.
        bins: those that hold answers.
        curve: (share answered, accuracy of that share), the surest answers first.
        area: the mean accuracy over all shares answered; 1 is best.
        kept: accuracy of the surest 80 %.
        kept_interval: its 95 % interval; Wilson's, or of resampled clusters.
    """

    ece: float
    by_chance: tuple[float, float] | None
    confidence: float
    accuracy: float
    bins: tuple[Bin, ...]
    curve: tuple[tuple[float, float], ...]
    area: float
    kept: float
    kept_interval: Interval

    def to_dict(self) -> dict[str, Any]:
        """For verdict.json."""
        return {
            "ece": self.ece,
            "ece_by_chance": None if self.by_chance is None else list(self.by_chance),
            "confidence": self.confidence,
            "accuracy": self.accuracy,
            "bins": [vars(one) for one in self.bins],
            "selective": {
                "curve": [list(point) for point in self.curve],
                "area": self.area,
                "kept": KEPT,
                "accuracy_of_kept": self.kept,
                "interval_of_kept": list(self.kept_interval),
            },
        }


def confidence_of(row: Mapping[str, Any]) -> float | None:
    """How sure an arm was of the answer in a row of predictions.jsonl; None where it does not tell.

    That is its `confidence`, else the probability of the label it answered.
    """
    value = row.get("confidence")
    if value is None:
        chances = row.get("probabilities")
        value = chances.get(row.get("prediction")) if isinstance(chances, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def calibrate(
    confidence: Sequence[float] | Array,
    right: Sequence[float] | Array,
    clusters: Sequence[Hashable] | None = None,
) -> Calibration:
    """Hold confidences against what was right.

    Args:
        confidence: (n,) from 0 to 1, n at least 1.
        right: (n,) 1 for a right answer, 0 for a wrong one, or what lies between.
        clusters: an id for each row, where rows belong together.
    """
    sure, good = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if sure.shape != good.shape or sure.ndim != 1 or not len(sure):
        raise ValueError(f"{sure.shape} confidences for {good.shape} answers")
    bins = _binned(sure, good)
    order, mean = _surest_first(sure, good)
    n = len(order)
    curve = np.cumsum(mean) / np.arange(1, n + 1)
    kept = math.ceil(KEPT * n - 1e-9)
    shown = sorted({max(1, math.ceil(n * i / _POINTS)) for i in range(1, _POINTS + 1)})
    return Calibration(
        ece=sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / n,
        by_chance=_by_chance(sure) if np.isin(good, (0, 1)).all() else None,
        confidence=float(sure.mean()),
        accuracy=float(good.mean()),
        bins=bins,
        curve=tuple((k / n, float(curve[k - 1])) for k in shown),
        area=float(curve.mean()),
        kept=float(curve[kept - 1]),
        kept_interval=_interval(
            mean[:kept], None if clusters is None else [clusters[row] for row in order[:kept]]
        ),
    )


def selective_accuracy(confidence: Array, right: Array) -> Array:
    """(n,): accuracy of the k surest answers, k from 1 to n.

    Equally sure answers have no order; each then counts what they have right on average.
    """
    _, mean = _surest_first(confidence, right)
    return np.asarray(np.cumsum(mean) / np.arange(1, len(right) + 1))


def _surest_first(confidence: Array, right: Array) -> tuple[NDArray[np.intp], Array]:
    """(the rows by confidence, what each has right, the mean of those that are as sure), (n,)."""
    _, group = np.unique(-confidence, return_inverse=True)
    mean = np.bincount(group, weights=right) / np.bincount(group)
    order = np.argsort(group, kind="stable")
    return order, mean[group][order]


def _interval(right: Array, clusters: Sequence[Hashable] | None) -> Interval:
    """95 % of the mean of some rows."""
    units = len(right if clusters is None else set(clusters))
    same = bool(np.ptp(right) == 0)
    if units == len(right) or same:  # alike in all clusters, there is nothing to resample
        return wilson_interval(min(float(right.mean()), 1.0) * units, units)
    table = np.stack([right, np.ones(len(right))], axis=1)
    return paired_bootstrap([table], _share, clusters=clusters).interval(0)


def _share(sums: Array) -> Array:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _binned(sure: Array, good: Array) -> tuple[Bin, ...]:
    edges, places = _places(sure)
    return tuple(
        Bin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            n=int((places == place).sum()),
            confidence=float(sure[places == place].mean()),
            accuracy=float(good[places == place].mean()),
        )
        for place in np.unique(places)
    )


def _places(sure: Array) -> tuple[Array, NDArray[np.intp]]:
    """The edges of all bins, and the bin of each answer."""
    edges = np.linspace(0, 1, BINS + 1)
    return edges, np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, BINS - 1)


def _by_chance(sure: Array) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    _, places = _places(sure)
    found = np.empty(_DRAWS)
    for draw in range(_DRAWS):
        missed = (rng.random(len(sure)) < sure) - sure
        found[draw] = np.abs(np.bincount(places, weights=missed)).sum() / len(sure)
    return float(found.mean()), float(np.quantile(found, 0.95))
