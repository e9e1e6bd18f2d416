"""Every arm against every other on one test: values, intervals, differences, p-values.

Right/wrong metrics get Wilson and Newcombe intervals and McNemar's exact test; other metrics, rows
that belong together, and arms trained with several seeds, the paired bootstrap
(`luthier.evaluation.statistics`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation import statistics
from luthier.evaluation.scoring import Metric
from luthier.evaluation.statistics import Interval

Array = NDArray[np.float64]

#: Of the intervals that are reported.
LEVEL = 0.95
#: How often, at most, a verdict may deploy an arm that is worse than the best by more than the
#: margin; see `luthier.verdict.decide`.
ERROR_RATE = 0.05


@dataclass(frozen=True, eq=False)
class ArmResult:
    """What one arm did on the test.

    Attributes:
        name: of the arm.
        statistics: (n, k) sufficient statistics of the deciding metric, or (seeds, n, k) of an arm
            that was trained with several seeds; its score is the mean over them. None for a failed
            arm.
        row_scores: (n,), as in predictions.jsonl; None for a failed arm.
        invalid_rate: share of answers without the form asked for.
        floor: whether it is there to be beaten only (the majority answer) and never deployed.
        ceiling: whether it is an upper bound that nothing real can reach (the right passage shown),
            and never deployed.
        failed: why it has no result; None when it has one.
        costs: of verdict.json: train_seconds, train_tokens_per_second, trained_parameters,
            total_parameters, seconds_per_answer, prompt_tokens_per_answer, peak_memory_bytes.
            What was not measured is missing or None.
        forgetting: `{"drop", "interval", "probes"}` in fractions of chance-corrected accuracy;
            None when not measured.
        memorisation: what was learned by heart (`evaluation/memorisation`); None when not looked
            for.
        can_forget: whether the arm changed the weights of a language model, so that forgetting
            is a question at all.
        metrics: other metrics by name.
        extra: what else verdict.json should say of the arm.
    """

    name: str
    statistics: Array | None
    row_scores: Array | None = None
    invalid_rate: float | None = None
    floor: bool = False
    ceiling: bool = False
    failed: str | None = None
    costs: Mapping[str, float | int | None] = field(default_factory=dict)
    forgetting: Mapping[str, Any] | None = None
    memorisation: Mapping[str, Any] | None = None
    can_forget: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Compared:
    """An arm with its score; `score` and `interval` are None for a failed arm."""

    result: ArmResult
    score: float | None
    interval: Interval | None

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.result.name


@dataclass(frozen=True)
class Pair:
    """The difference `first` - `second`.

    Attributes:
        difference: of the metric's values.
        interval: 95 %, each difference for itself.
        joint_interval: the one decisions are made with, wider when many arms are compared; see
            `joint_level`, and `floor_level` where one of the two is a floor.
        p: two-sided, for no difference.
        error: standard error of the difference.
        discordance: share of rows that exactly one of the two has right; None when the metric is
            not right/wrong, or rows are clustered.
    """

    first: str
    second: str
    difference: float
    interval: Interval
    joint_interval: Interval
    p: float
    error: float
    discordance: float | None

    def turned(self) -> Pair:
        """The difference `second` - `first`."""
        return Pair(
            first=self.second,
            second=self.first,
            difference=-self.difference,
            interval=(-self.interval[1], -self.interval[0]),
            joint_interval=(-self.joint_interval[1], -self.joint_interval[0]),
            p=self.p,
            error=self.error,
            discordance=self.discordance,
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """All arms on one test.

    Attributes:
        metric: the one that decides.
        n: rows of the test.
        units: rows, or clusters of rows, that are independent of each other.
        arms: in the order given.
        pairs: by (first, second), both ways round, for arms that did not fail.
        best: name of the arm with the highest score (ties: first by name); None if all failed.
        adjusted: Holm's adjusted p of every pair, by (first, second), both ways round. The family
            is every pair of arms, as any of them could have come out best: adjusted over the best
            arm's pairs alone, 10 equal arms had one "better" than another in 19 tests of 100
            (`luthier.verdict.simulation`).
        joint_level: of `Pair.joint_interval` between arms that may be deployed.
        floor_level: of `Pair.joint_interval` where one of the two is a floor.
        method: how intervals and p-values were computed, in words.
    """

    metric: Metric
    n: int
    units: int
    arms: tuple[Compared, ...]
    pairs: Mapping[tuple[str, str], Pair]
    best: str | None
    adjusted: Mapping[tuple[str, str], float]
    joint_level: float
    floor_level: float
    method: str

    @property
    def p_adjusted(self) -> dict[str, float]:
        """For each other arm that has a score, the adjusted p of its difference from the best."""
        return {one: p for (one, other), p in self.adjusted.items() if other == self.best}

    def arm(self, name: str) -> Compared:
        """The arm called `name`."""
        return next(arm for arm in self.arms if arm.name == name)


def joint_level(arms: int) -> float:
    """Level of each two-sided interval so that a decision among `arms` arms holds jointly.

    At most arms - 1 of them are worse than the best by more than the margin, and each of those is
    accepted with probability (1 - level) / 2 at most; Bonferroni over arms - 1 keeps the chance
    to accept any of them at ERROR_RATE. Up to three arms that is the 95 % interval itself. With
    95 % intervals throughout, six arms, and a margin large against the noise, one simulation in
    ten deployed such an arm (tests/verdict/test_verdict_decide.py).
    """
    return 1 - 2 * min((1 - LEVEL) / 2, ERROR_RATE / max(1, arms - 1))


def floor_level(arms: int) -> float:
    """Level of each two-sided interval of a lead over a floor, where `arms` arms could have one.

    Any of them may be deployed for a lead that it does not have. With 95 % intervals throughout,
    ten arms as good as the floor, and a margin large against the noise, one simulation in six
    deployed one; with Bonferroni over the arms, one in forty (`luthier.verdict.simulation`).
    """
    return 1 - (1 - LEVEL) / max(1, arms)


def compare(
    arms: Sequence[ArmResult],
    metric: Metric,
    *,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = statistics.RESAMPLES,
) -> Comparison:
    """Compare arms that answered the same rows in the same order.

    Args:
        arms: at least one, with distinct names; failed ones are kept, and not compared.
        metric: that `ArmResult.statistics` are of.
        seed: of the resampling.
        clusters: an id for each row, when rows belong together (one document, one thread).
            Clusters of one row each change nothing.
        resamples: of the bootstrap.
    """
    names = [arm.name for arm in arms]
    if len(set(names)) != len(names):
        raise ValueError(f"arms share a name: {names}")
    alive = [arm for arm in arms if arm.failed is None]
    tables = [np.asarray(arm.statistics, dtype=np.float64) for arm in alive]
    tables = [table[0] if table.ndim == 3 and len(table) == 1 else table for table in tables]
    if len({table.shape[-2:] for table in tables}) > 1:
        raise ValueError(f"arms answered different rows: {[table.shape for table in tables]}")
    n = tables[0].shape[-2] if tables else 0
    if tables and n == 0:
        raise ValueError("the test has no rows")
    if clusters is not None and len(set(clusters)) == len(clusters):
        clusters = None
    candidates = sum(not (arm.floor or arm.ceiling) for arm in alive)
    level, over_floor = joint_level(candidates), floor_level(candidates)
    scores = [float(np.mean(metric.value(table.sum(axis=-2)))) for table in tables]

    method: _Method
    if metric.binary and clusters is None and all(table.ndim == 2 for table in tables):
        method = _Exact(tables)
    else:
        method = _Resampled(tables, metric, seed, clusters, resamples)

    pairs = {}
    adjusted = {}
    for i in range(len(alive)):
        for j in range(i + 1, len(alive)):
            first, second = alive[i], alive[j]
            joint = over_floor if first.floor or second.floor else level
            pair = method.pair(i, j, first.name, second.name, scores[i] - scores[j], joint)
            pairs[pair.first, pair.second] = pair
            adjusted[pair.first, pair.second] = pair.p
    adjusted = dict(zip(adjusted, statistics.holm(list(adjusted.values())), strict=True))
    for (one, other), pair in list(pairs.items()):
        pairs[other, one] = pair.turned()
        adjusted[other, one] = adjusted[one, other]
    by_name = {arm.name: k for k, arm in enumerate(alive)}
    real = [arm.name for arm in alive if not arm.ceiling]
    best = min(real, key=lambda name: (-scores[by_name[name]], name), default=None)
    return Comparison(
        metric=metric,
        n=n,
        units=len(set(clusters)) if clusters is not None else n,
        arms=tuple(
            Compared(arm, scores[by_name[arm.name]], method.interval(by_name[arm.name]))
            if arm.failed is None
            else Compared(arm, None, None)
            for arm in arms
        ),
        pairs=pairs,
        best=best,
        adjusted=adjusted,
        joint_level=level,
        floor_level=over_floor,
        method=method.words,
    )


class _Method(ABC):
    """Intervals and p-values for arms by number."""

    words: str

    @abstractmethod
    def interval(self, arm: int) -> Interval: ...

    @abstractmethod
    def pair(
        self, i: int, j: int, first: str, second: str, difference: float, joint: float
    ) -> Pair: ...


class _Exact(_Method):
    """Closed forms for right/wrong rows."""

    words = "Wilson and Newcombe (paired) intervals, McNemar's exact test, Holm's correction"

    def __init__(self, tables: Sequence[Array]) -> None:
        self._right = [table[:, 0] > 0.5 for table in tables]

    def interval(self, arm: int) -> Interval:
        right = self._right[arm]
        return statistics.wilson_interval(int(right.sum()), len(right), LEVEL)

    def pair(
        self, i: int, j: int, first: str, second: str, difference: float, joint: float
    ) -> Pair:
        one, other = self._right[i], self._right[j]
        n = len(one)
        both, b, c = (int(x.sum()) for x in (one & other, one & ~other, ~one & other))
        neither = n - both - b - c
        # variance of a row's difference is p_d - d^2; half a row of disagreement is the least
        # that is believed, or the error of two arms that agree throughout would be 0
        p_d = max(b + c, 0.5) / n
        return Pair(
            first=first,
            second=second,
            difference=difference,
            interval=statistics.paired_interval(both, b, c, neither, LEVEL),
            joint_interval=statistics.paired_interval(both, b, c, neither, joint),
            p=statistics.mcnemar_exact(b, c),
            error=float(np.sqrt(max(0.0, p_d - difference**2) / n)),
            discordance=(b + c) / n,
        )


class _Resampled(_Method):
    """The paired bootstrap."""

    def __init__(
        self,
        tables: Sequence[Array],
        metric: Metric,
        seed: int,
        clusters: Sequence[Hashable] | None,
        resamples: int,
    ) -> None:
        self._bootstrap = (
            statistics.paired_bootstrap(
                tables, metric.value, resamples=resamples, seed=seed, clusters=clusters
            )
            if tables
            else None
        )
        what = "clusters of rows" if clusters is not None else "rows"
        seeded = any(table.ndim == 3 for table in tables)
        self.words = (
            f"paired bootstrap over {what}{' and training seeds' * seeded}, {resamples:,} "
            "resamples, expanded percentile intervals, Holm's correction"
        )

    def interval(self, arm: int) -> Interval:
        assert self._bootstrap is not None
        return self._bootstrap.interval(arm, LEVEL)

    def pair(
        self, i: int, j: int, first: str, second: str, difference: float, joint: float
    ) -> Pair:
        assert self._bootstrap is not None
        interval, joint_interval = self._bootstrap.difference_intervals(i, j, (LEVEL, joint))
        return Pair(
            first=first,
            second=second,
            difference=difference,
            interval=interval,
            joint_interval=joint_interval,
            p=self._bootstrap.difference_p(i, j),
            error=self._bootstrap.difference_deviation(i, j),
            discordance=None,
        )
