"""Results by part of the test: by label, column, length, rarity and topic, and which are worst.

A rare part can be the crucial one, and a small part is easily over-read. So a part is called worse
only when its rows, drawn at random from the whole test, would score so low too seldom to be chance,
Holm-corrected over all parts of an arm: where nothing is wrong, nothing is called worse in 95 of
100 tests. Parts of fewer than ten rows are reported and never called anything.

Right/wrong rows get the hypergeometric tail (Fisher's exact test), other scores a permutation of
the rows; both are exact when rows are exchangeable. Where rows belong together (clusters), they
are not, and the difference is resampled by cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation import statistics
from luthier.evaluation.scoring import Metric
from luthier.evaluation.statistics import Interval

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Rows (or clusters of rows) below which a part is not judged.
FEWEST = 10
#: The family-wise error rate of calling parts worse, for each arm.
ALPHA = 0.05
#: Values of a column at most, and the characters of one, for it to be a category.
MOST_VALUES, LONGEST_VALUE = 12, 60
#: Labels at most that are looked at, the most frequent ones.
MOST_LABELS = 30
#: Training rows of a label at which another band of rarity begins.
BANDS = (1, 10, 50, 200)
_RESAMPLES = 2_000
_PERMUTATIONS = 4_000
#: Numbers of 8 bytes held at a time.
_CHUNK = 4_000_000


@dataclass(frozen=True, eq=False)
class Slice:
    """A part of the test.

    Attributes:
        by: what the rows share: "label", "input length", "rarity" (of the label in training),
            "topic", or the name of a column.
        value: their value of it, in words.
        rows: (n,), which rows are in it.
    """

    by: str
    value: str
    rows: Mask

    @property
    def n(self) -> int:
        """How many rows are in it."""
        return int(self.rows.sum())


@dataclass(frozen=True)
class Part:
    """One arm on one slice.

    Attributes:
        score: of the rows in it.
        interval: 95 %, Wilson's or the bootstrap's.
        p_adjusted: Holm-adjusted, one-sided, for "no worse than the whole test"; None where there
            are too few rows to tell.
        worse: p_adjusted is below 0.05.
    """

    score: float
    interval: Interval
    p_adjusted: float | None
    worse: bool


@dataclass(frozen=True)
class SliceResult:
    """A slice and every arm on it."""

    by: str
    value: str
    n: int
    arms: Mapping[str, Part]

    def to_dict(self) -> dict[str, Any]:
        """For verdict.json."""
        return {
            "by": self.by,
            "value": self.value,
            "n": self.n,
            "arms": {
                name: {
                    "score": part.score,
                    "interval": list(part.interval),
                    "p_adjusted": part.p_adjusted,
                    "worse": part.worse,
                }
                for name, part in self.arms.items()
            },
        }


def slice_rows(
    inputs: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    trained: Mapping[str, int] | None = None,
    fields: Sequence[Mapping[str, Any] | None] = (),
    topics: Sequence[str] = (),
) -> list[Slice]:
    """The slices of a test; those with the same rows as an earlier one are left out.

    Args:
        inputs: what is asked, in the order of the test.
        labels: the right answers of a classification; None for other kinds.
        trained: how many training rows each label has.
        fields: other columns of each row.
        topics: a topic's name for each row.
    """
    n = len(inputs)
    found: list[Slice] = []
    if labels is not None:
        known = Counter(labels).most_common(MOST_LABELS)
        found += _by_value("label", labels, [label for label, _ in known])
    for name in dict.fromkeys(key for row in fields for key in row or ()):
        values = [_category((row or {}).get(name)) for row in fields]
        if None not in values and 2 <= len(set(values)) <= min(MOST_VALUES, n // 2):
            found += _by_value(str(name), [value or "" for value in values])
    if labels is not None and trained is not None:
        bands = [_band(trained.get(label, 0)) for label in labels]
        found += _by_value("rarity", bands)
    found += _by_length(inputs)
    if topics:
        found += _by_value("topic", topics)
    return _distinct(found, n)


def by_slice(
    slices: Sequence[Slice],
    arms: Mapping[str, Array],
    metric: Metric,
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> list[SliceResult]:
    """Every arm on every slice.

    Args:
        slices: parts of one test.
        arms: for each arm the sufficient statistics of each row, (n, k).
        metric: that they are of.
        clusters: an id for each row, where rows belong together.
        seed: of resampling and permuting.
    """
    if not slices or not arms:
        return []
    if clusters is not None and len(set(clusters)) == len(clusters):
        clusters = None
    tables = [np.asarray(table, dtype=np.float64) for table in arms.values()]
    judged = [i for i, one in enumerate(slices) if _units(one.rows, clusters) >= FEWEST]
    chosen = [slices[i].rows for i in judged]
    exact = metric.binary and clusters is None
    if not judged:
        tails = np.zeros((len(tables), 0))
    elif exact:
        tails = _exact_tails(chosen, tables)
    elif clusters is None:
        tails = _permuted_tails(chosen, tables, metric, seed)
    else:
        tails = _resampled_tails(chosen, tables, metric, clusters, seed)
    adjusted = [dict(zip(judged, statistics.holm(list(row)), strict=True)) for row in tails]
    results = []
    for i, one in enumerate(slices):
        own = [table[one.rows] for table in tables]
        intervals = _intervals(own, one.rows, metric, clusters, seed, exact=exact)
        parts = {}
        for name, table, interval, known in zip(arms, own, intervals, adjusted, strict=True):
            p = float(known[i]) if i in known else None
            parts[name] = Part(
                score=float(metric.value(table.sum(axis=0))),
                interval=interval,
                p_adjusted=p,
                worse=bool(p is not None and p < ALPHA),
            )
        results.append(SliceResult(one.by, one.value, one.n, parts))
    return results


# ---- which rows ------------------------------------------------------------------------------


def _by_value(by: str, values: Sequence[str], order: Sequence[str] | None = None) -> list[Slice]:
    table = np.array(values, dtype=object)
    order = order if order is not None else sorted(set(values), key=_natural)
    return [Slice(by, value, np.asarray(table == value, dtype=bool)) for value in order]


def _natural(value: str) -> tuple[float, str]:
    """Numbers at the front of a value in their order ("2 to 9" before "10 to 49")."""
    digits = value.split()[0] if value.split() else ""
    return (float(digits) if digits.isdigit() and len(digits) < 12 else -1.0, value)


def _category(value: Any) -> str | None:
    """A value as a category; None for what is none."""
    if value is None or value == "":
        return "(empty)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int) and len(str(value)) <= LONGEST_VALUE:
        return str(value).strip() or "(empty)"
    return None


def _band(rows: int) -> str:
    place = int(np.searchsorted(BANDS, rows, side="right"))
    if place == 0:
        return "0 training rows"
    if place == len(BANDS):
        return f"{BANDS[-1]} training rows and more"
    return f"{BANDS[place - 1]} to {BANDS[place] - 1} training rows"


def _by_length(inputs: Sequence[str]) -> list[Slice]:
    """Quartiles of the words of an input; fewer where many inputs are equally long."""
    lengths = np.array([len(text.split()) for text in inputs])
    if len(lengths) < 4:
        return []
    cuts = np.unique(np.quantile(lengths, (0.25, 0.5, 0.75)))
    codes = np.searchsorted(cuts, lengths, side="left")
    found = []
    for code in np.unique(codes):
        rows = codes == code
        low, high = int(lengths[rows].min()), int(lengths[rows].max())
        words = f"{low} words" if low == high else f"{low} to {high} words"
        found.append(Slice("input length", words, rows))
    return found


def _distinct(slices: Sequence[Slice], n: int) -> list[Slice]:
    """Without slices that are empty, everything, or the same rows again."""
    seen: set[bytes] = set()
    kept = []
    for one in slices:
        key = np.packbits(one.rows).tobytes()
        if 0 < one.n < n and key not in seen:
            seen.add(key)
            kept.append(one)
    return kept


def _units(rows: Mask, clusters: Sequence[Hashable] | None) -> int:
    if clusters is None:
        return int(rows.sum())
    return len({clusters[int(i)] for i in np.flatnonzero(rows)})


# ---- how sure --------------------------------------------------------------------------------


def _exact_tails(slices: Sequence[Mask], tables: Sequence[Array]) -> Array:
    """(arms, slices): chance that as many rows drawn at random have so few right ones."""
    from scipy.stats import hypergeom

    right = np.array([table[:, 0] > 0.5 for table in tables])
    sizes = np.array([int(rows.sum()) for rows in slices])
    inside = np.array([[int(row[rows].sum()) for rows in slices] for row in right])
    total = right.sum(axis=1)[:, None]
    return np.asarray(hypergeom.cdf(inside, right.shape[1], total, sizes[None, :]))


def _permuted_tails(
    slices: Sequence[Mask], tables: Sequence[Array], metric: Metric, seed: int
) -> Array:
    """(arms, slices): as `_exact_tails`, counted over random draws of as many rows."""
    stacked = np.stack(tables, axis=1)
    n, arms, k = stacked.shape
    flat = stacked.reshape(n, arms * k)
    own = np.array([metric.value(stacked[rows].sum(axis=0)) for rows in slices]) + 1e-12
    sizes = [int(rows.sum()) for rows in slices]
    low = np.zeros((len(slices), arms))
    rng = np.random.default_rng(seed)
    done = 0
    while done < _PERMUTATIONS:
        count = min(_PERMUTATIONS - done, max(1, _CHUNK // n))
        rank = rng.random((count, n)).argsort(axis=1)
        for size in dict.fromkeys(sizes):
            drawn = (rank < size).astype(np.float64) @ flat
            values = metric.value(drawn.reshape(count, arms, k))
            for i in [i for i, other in enumerate(sizes) if other == size]:
                low[i] += (values <= own[i]).sum(axis=0)
        done += count
    return np.asarray((1 + low.T) / (1 + _PERMUTATIONS))


def _resampled_tails(
    slices: Sequence[Mask],
    tables: Sequence[Array],
    metric: Metric,
    clusters: Sequence[Hashable],
    seed: int,
) -> Array:
    """(arms, slices): one-sided p of slice less whole, both resampled by cluster."""
    tails = np.empty((len(tables), len(slices)))
    for j, rows in enumerate(slices):
        both = [table * rows[:, None] for table in tables] + list(tables)
        boot = statistics.paired_bootstrap(
            both, metric.value, resamples=_RESAMPLES, seed=seed, clusters=clusters
        )
        units = _units(rows, clusters)
        for i in range(len(tables)):
            gap = boot.values[:, i] - boot.values[:, i + len(tables)]
            p = statistics.expanded_p(gap, units) / 2
            tails[i, j] = p if np.median(gap) < 0 else 1 - p
    return tails


def _intervals(
    own: Sequence[Array],
    rows: Mask,
    metric: Metric,
    clusters: Sequence[Hashable] | None,
    seed: int,
    *,
    exact: bool,
) -> list[Interval]:
    if exact:
        return [
            statistics.wilson_interval(int((table[:, 0] > 0.5).sum()), len(table)) for table in own
        ]
    inside = None if clusters is None else [clusters[int(i)] for i in np.flatnonzero(rows)]
    boot = statistics.paired_bootstrap(
        own, metric.value, resamples=_RESAMPLES, seed=seed, clusters=inside
    )
    return [boot.interval(i) for i in range(len(own))]
