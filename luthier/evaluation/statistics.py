"""Statistics for comparing arms on one test set.

Right/wrong metrics have closed forms: Wilson's interval for one rate, McNemar's exact test and
Newcombe's hybrid score interval for two arms that answered the same rows. Everything else, and
anything where rows belong together (clusters), is resampled: the paired bootstrap draws rows (or
clusters) with replacement, the same draw for every arm, and recomputes the metric from summed
sufficient statistics.

References:
    Wilson 1927, JASA 22:209; McNemar 1947, Psychometrika 12:153;
    Newcombe 1998, Statistics in Medicine 17:2635 (method 10);
    Efron & Tibshirani 1993; Hesterberg 2015, The American Statistician 69:371 (expanded
    percentile interval); Holm 1979, Scand. J. Statistics 6:65;
    Connor 1987, Biometrics 43:207 (sample size of McNemar's test);
    Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation.seeds import mean_over_seeds

Array = NDArray[np.float64]
Interval = tuple[float, float]

#: Resamples of the bootstrap.
RESAMPLES = 10_000
#: The least share of rows on which two arms are taken to disagree when a detectable effect is
#: computed: a sample in which they (almost) always agree does not show that they always will.
LEAST_DISCORDANCE = 0.05
#: Weights held in memory at a time, in numbers of 8 bytes (32 MB).
_CHUNK = 4_000_000


def quantile_of_normal(probability: float) -> float:
    """The standard normal quantile."""
    return NormalDist().inv_cdf(probability)


def wilson_interval(k: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval for a rate of k in n; (0, 1) for n = 0."""
    if n <= 0:
        return 0.0, 1.0
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a rate")
    z = quantile_of_normal(0.5 + level / 2)
    rate = k / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # the ends are exact at 0 and n, where rounding would miss them by an epsilon
    return (
        0.0 if k == 0 else max(0.0, centre - half),
        1.0 if k == n else min(1.0, centre + half),
    )


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p of McNemar's exact test.

    Args:
        b: rows that only the first arm has right.
        c: rows that only the second arm has right.
    """
    if b + c == 0:
        return 1.0
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5)))


def paired_interval(both: int, b: int, c: int, neither: int, level: float = 0.95) -> Interval:
    """Newcombe's hybrid score interval (his method 10) for the difference of two paired rates.

    The difference is first - second = (b - c) / n. Wilson limits of the two rates are combined,
    allowing for their correlation phi (continuity-corrected); it keeps close to its level for
    small n and for rates near 0 and 1, where the plain Wald interval does not.

    Args:
        both, b, c, neither: rows that both, only the first, only the second, no arm has right.
        level: of confidence.
    """
    n = both + b + c + neither
    if n == 0:
        return -1.0, 1.0
    first, second = (both + b) / n, (both + c) / n
    low1, high1 = wilson_interval(both + b, n, level)
    low2, high2 = wilson_interval(both + c, n, level)
    product = float(both + b) * (c + neither) * (both + c) * (b + neither)
    above = float(both) * neither - float(b) * c
    if above > 0:
        above = max(above - n / 2, 0.0)
    phi = above / math.sqrt(product) if product > 0 else 0.0
    difference = first - second
    lower = _hybrid(first - low1, high2 - second, phi)
    upper = _hybrid(high1 - first, second - low2, phi)
    return max(-1.0, difference - lower), min(1.0, difference + upper)


def _hybrid(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Resampled values of several arms, the same rows drawn for each.

    Attributes:
        values: (resamples, arms).
        units: how many rows, or clusters, were drawn from.
    """

    values: Array
    units: int

    def interval(self, arm: int, level: float = 0.95) -> Interval:
        """Of one arm's value."""
        return expanded_interval(self.values[:, arm], self.units, level)

    def difference_interval(self, first: int, second: int, level: float = 0.95) -> Interval:
        """Of first - second."""
        return self.difference_intervals(first, second, (level,))[0]

    def difference_intervals(
        self, first: int, second: int, levels: Sequence[float]
    ) -> list[Interval]:
        """Of first - second, at several levels."""
        return expanded_intervals(self._difference(first, second), self.units, levels)

    def difference_p(self, first: int, second: int) -> float:
        """Two-sided p for no difference; below 0.05 where the 95 % interval leaves out 0."""
        return expanded_p(self._difference(first, second), self.units)

    def difference_deviation(self, first: int, second: int) -> float:
        """Standard error of first - second."""
        return float(self._difference(first, second).std())

    def _difference(self, first: int, second: int) -> Array:
        return self.values[:, first] - self.values[:, second]


def paired_bootstrap(
    statistics: Sequence[Array],
    value: Callable[[Array], Array],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> Bootstrap:
    """Resample the rows of one test for all arms together.

    Args:
        statistics: for each arm the sufficient statistics of each row, (n, k); of an arm that was
            trained with several seeds (seeds, n, k), its value is the mean over seeds then.
        value: the metric from summed statistics, (..., k) to (...).
        resamples: how many.
        seed: of the draws; the result depends on nothing else.
        clusters: an id for each row; rows of one cluster are drawn together.
    """
    tables = [np.asarray(arm, dtype=np.float64) for arm in statistics]
    columns = [len(table) if table.ndim == 3 else 1 for table in tables]
    stacked = np.stack(
        [one for table in tables for one in (table if table.ndim == 3 else table[None])], axis=1
    )
    if clusters is not None:
        stacked = _sum_by_cluster(stacked, clusters)
    units, width, k = stacked.shape
    flat = stacked.reshape(units, width * k)
    values = np.empty((resamples, width))
    done = 0
    # sums of whole numbers are exact in float32 too, where they stay below 2^24, and twice as fast
    top = float(np.abs(flat).max(initial=0.0))
    exact = units * top < 2**24 and bool((flat == np.rint(flat)).all())
    distinct, places = _distinct_columns(flat.astype(np.float32) if exact else flat)
    for weights in resampled_weights(units, resamples, seed, width * k):
        sums = (weights.astype(distinct.dtype) @ distinct).astype(np.float64)
        sums = sums[:, places].reshape(-1, width, k)
        values[done : done + len(weights)] = value(sums)
        done += len(weights)
    if width > len(tables):
        values = _over_seeds(values, value(stacked.sum(axis=0)), columns, seed)
    return Bootstrap(values=values, units=units)


def _distinct_columns(flat: Array) -> tuple[Array, list[int]]:
    """The columns without repeats, and for each column which of them it is: what is counted of the
    references is the same in every arm."""
    turned = np.ascontiguousarray(flat.T)
    first: dict[bytes, int] = {}
    places = [first.setdefault(column.tobytes(), len(first)) for column in turned]
    kept = [places.index(number) for number in range(len(first))]
    return np.ascontiguousarray(turned[kept].T), places


def _over_seeds(values: Array, observed: Array, columns: Sequence[int], seed: int) -> Array:
    """One column for each arm, from one for each of its seeds."""
    arms, start = [], 0
    for number, count in enumerate(columns):
        held = slice(start, start + count)
        rng = np.random.default_rng([seed, number])
        arms.append(mean_over_seeds(observed[held], values[:, held], rng))
        start += count
    return np.stack(arms, axis=1)


def _sum_by_cluster(stacked: Array, clusters: Sequence[Hashable]) -> Array:
    codes = cluster_codes(clusters, len(stacked))
    summed = np.zeros((max(codes, default=-1) + 1, *stacked.shape[1:]))
    np.add.at(summed, codes, stacked)
    return summed


def cluster_codes(clusters: Sequence[Hashable], rows: int) -> list[int]:
    """The number of each row's cluster, from 0, in the order in which they first occur.

    Raises:
        ValueError: there are not as many ids as rows.
    """
    if len(clusters) != rows:
        raise ValueError(f"{len(clusters)} cluster ids for {rows} rows")
    number: dict[Hashable, int] = {}
    return [number.setdefault(cluster, len(number)) for cluster in clusters]


def resampled_weights(units: int, resamples: int, seed: int, width: int = 1) -> Iterator[Array]:
    """How often each unit is drawn in each resample, (some resamples, units), a chunk at a time.

    Args:
        units: to draw from, with replacement, as many as there are.
        resamples: how many in all.
        seed: of the draws.
        width: numbers that are computed of each resample, where that is more than `units`.
    """
    rng = np.random.default_rng(seed)
    size = max(1, min(resamples, _CHUNK // max(units, width)))
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = rng.integers(0, units, size=(count, units))
        drawn += np.arange(count)[:, None] * units
        weights = np.bincount(drawn.ravel(), minlength=count * units)
        yield weights.reshape(count, units).astype(np.float64)


def expanded_interval(values: Array, units: int, level: float = 0.95) -> Interval:
    """Percentile interval of resampled values, widened for small samples (Hesterberg 2015).

    The tail is Phi(-sqrt(n / (n - 1)) t_{n-1}) instead of (1 - level) / 2: the plain percentile
    interval is too narrow the way a normal interval without Student's correction is. In
    simulations (tests/evaluation/test_evaluation_statistics.py) it covers better than BCa for the
    differences compared here and needs no jackknife.
    """
    return expanded_intervals(values, units, (level,))[0]


def expanded_intervals(values: Array, units: int, levels: Sequence[float]) -> list[Interval]:
    """`expanded_interval` at several levels."""
    if units < 2:
        return [(float(values.min()), float(values.max()))] * len(levels)
    tails = np.array([_expanded_tail(units, level) for level in levels])
    ends = np.quantile(values, np.concatenate([tails, 1 - tails]))
    lows, highs = np.split(ends, 2)
    return [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


@lru_cache
def _expanded_tail(units: int, level: float) -> float:
    from scipy.special import stdtrit

    quantile = float(stdtrit(units - 1, 0.5 + level / 2)) * math.sqrt(units / (units - 1))
    return 1 - NormalDist().cdf(quantile)


def expanded_p(values: Array, units: int) -> float:
    """Two-sided p for a centre of 0: one minus the level of the interval that just reaches 0."""
    if units < 2:
        return 1.0
    from scipy.special import stdtr

    # ties with 0 count half on either side, so that equal arms have p = 1
    below = float((values < 0).mean() + 0.5 * (values == 0).mean())
    tail = max(min(below, 1 - below), 0.5 / len(values))
    quantile = quantile_of_normal(tail) / math.sqrt(units / (units - 1))
    return min(1.0, 2 * float(stdtr(units - 1, quantile)))


def minimum_detectable_effect(n: int, p_d: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """The least true difference of two paired rates that n rows would show, as a fraction.

    Solves n = (z_{alpha/2} sqrt(p_d) + z_power sqrt(p_d - d^2))^2 / d^2 for d.

    Args:
        n: rows.
        p_d: share of rows on which the arms disagree; taken as at least LEAST_DISCORDANCE, and
            as at least d itself (arms cannot differ by more than they disagree).
        power: chance to see the difference.
        alpha: two-sided level.
    """
    if n < 1:
        return 1.0
    a, b = quantile_of_normal(1 - alpha / 2), quantile_of_normal(power)
    p_d = min(1.0, max(p_d, LEAST_DISCORDANCE))
    root = math.sqrt(max(0.0, n + b * b - a * a))
    d = math.sqrt(p_d) * (a * math.sqrt(n) + b * root) / (n + b * b)
    if d <= p_d:
        return d
    # one arm is right wherever they disagree: p_d = d, and sqrt(d) n = (a + b sqrt(1 - d))^2
    low, high = p_d, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if middle * n < (a + b * math.sqrt(1 - middle)) ** 2:
            low = middle
        else:
            high = middle
    return high


def rows_needed(d: float, p_d: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Rows at which McNemar's test shows a true difference d with the given power.

    Infinite for d = 0. `p_d` is taken as at least |d|.
    """
    d = abs(d)
    if d == 0:
        return math.inf
    a, b = quantile_of_normal(1 - alpha / 2), quantile_of_normal(power)
    p_d = max(p_d, d)
    return float(math.ceil((a * math.sqrt(p_d) + b * math.sqrt(p_d - d * d)) ** 2 / (d * d)))


def detectable_from_deviation(error: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """The least true difference that would show, from the standard error of the difference."""
    return (quantile_of_normal(1 - alpha / 2) + quantile_of_normal(power)) * error
