"""What each stage of sequential tuning does to every task: the matrix R and four sums of it.

R[i, j] is the score on task j after stage i; row 0 is the untuned base, stage i (from 1) is tuned
on task i. With T stages the matrix has T + 1 rows and T columns, fewer where a stage has no test
(raw text); "j" in a row's place is then the stage of task j.

    ACC = mean_j R[T, j]                                   Lopez-Paz & Ranzato 2017, eq. 2
    BWT = mean_{j<T} (R[T, j] - R[j, j])                   Lopez-Paz & Ranzato 2017, eq. 3
    F   = mean_{j<T} (max_{i<T} R[i, j] - R[T, j])         Chaudhry et al. 2018, eq. 3
    FWT = mean_{j>1} (R[j-1, j] - chance_j)                Lopez-Paz & Ranzato 2017, eq. 4

Means are over the tasks for which the term says something: the last task cannot have been
forgotten yet, and before the first one nothing was learned that could be transferred. All terms
are kept for each task (`Term`), so other means can be taken. The base counts in the maximum of F:
what it could do can be lost as well.

References:
    Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning", arXiv 1706.08840;
    Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning", arXiv 1801.10112.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation import statistics
from luthier.evaluation.scoring import Metric

Array = NDArray[np.float64]
Interval = tuple[float, float]

#: The sums by the name they have in matrix.json, written out.
FORMULAS = {
    "accuracy": "ACC = mean_j R[T,j]",
    "backward_transfer": "BWT = mean_{j<T} (R[T,j] - R[j,j])",
    "forgetting": "F = mean_{j<T} (max_{i<T} R[i,j] - R[T,j])",
    "forward_transfer": "FWT = mean_{j>1} (R[j-1,j] - chance_j)",
}


def accuracy(scores: Array) -> Array:
    """ACC: the mean score of all tasks after the last stage.

    Args:
        scores: (..., stages + 1, tasks).
    """
    return np.asarray(scores[..., -1, :].mean(axis=-1))


def backward(scores: Array, own: Sequence[int] | None = None) -> Array:
    """R[T, j] - R[j, j] of every task j, (..., tasks): below 0 where later stages did harm.

    Args:
        scores: (..., stages + 1, tasks).
        own: the stage of each task, counted from 1; 1, 2, 3, ... when None.
    """
    stages, tasks = _own(scores, own)
    return np.asarray(scores[..., -1, :] - scores[..., stages, tasks])


def forgotten(scores: Array) -> Array:
    """max_{i<T} R[i, j] - R[T, j] of every task j, (..., tasks); the base counts in the maximum."""
    return np.asarray(scores[..., :-1, :].max(axis=-2) - scores[..., -1, :])


def forward(scores: Array, chance: Sequence[float], own: Sequence[int] | None = None) -> Array:
    """R[j-1, j] - chance_j of every task j, (..., tasks): what was known before its stage."""
    stages, tasks = _own(scores, own)
    return np.asarray(scores[..., stages - 1, tasks] - np.asarray(chance, dtype=np.float64))


def sums(
    scores: Array, chance: Sequence[float], own: Sequence[int] | None = None
) -> dict[str, Array]:
    """ACC, BWT, F and FWT of matrices (..., stages + 1, tasks).

    A sum over no task is left out: with one stage there is nothing to forget or to transfer.
    """
    stages, _ = _own(scores, own)
    found = {"accuracy": accuracy(scores)}
    earlier, later = stages < scores.shape[-2] - 1, stages > 1
    if earlier.any():
        found["backward_transfer"] = backward(scores, own)[..., earlier].mean(axis=-1)
        found["forgetting"] = forgotten(scores)[..., earlier].mean(axis=-1)
    if later.any():
        found["forward_transfer"] = forward(scores, chance, own)[..., later].mean(axis=-1)
    return found


def _own(scores: Array, own: Sequence[int] | None) -> tuple[Any, Any]:
    tasks = np.arange(scores.shape[-1])
    return (tasks + 1 if own is None else np.asarray(own)), tasks


@dataclass(frozen=True, eq=False)
class Column:
    """One task of the chain: how every stage answered its test.

    Attributes:
        task: the stage's name.
        metric: that decides the task.
        answers: for each row of the matrix the sufficient statistics (n, k), the base first.
        chance: what an answer without any knowledge scores.
        stage: the task's own stage, counted from 1.
        clusters: an id for each test row, where rows belong together; else None.
    """

    task: str
    metric: Metric
    answers: Sequence[Array]
    chance: float
    stage: int
    clusters: Sequence[Hashable] | None = None


@dataclass(frozen=True)
class Term:
    """A task's own terms in the sums.

    Attributes:
        backward: R[T, j] - R[j, j].
        forgotten: max_{i<T} R[i, j] - R[T, j].
        forward: R[j-1, j] - chance_j.
        over_base: R[j-1, j] - R[0, j]: what the stages before its own did for it.
    """

    task: str
    backward: float
    forgotten: float
    forward: float
    over_base: float


@dataclass(frozen=True, eq=False)
class Filled:
    """A matrix, or as many of its rows as are known.

    Attributes:
        scores: (rows, T).
        intervals: 95 % of each score.
        drawn: (resamples, rows, T), scores of resampled test rows.
        units: the rows, or clusters, of the smallest test.
    """

    scores: Array
    intervals: list[list[Interval]]
    drawn: Array
    units: int


@dataclass(frozen=True, eq=False)
class Transfer:
    """What a whole matrix comes to.

    Attributes:
        sums: value and 95 % interval by name; a sum that is not defined is missing.
        terms: of each task.
    """

    sums: dict[str, tuple[float, Interval]]
    terms: tuple[Term, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "summary": {
                name: {"value": value, "interval": list(interval), "formula": FORMULAS[name]}
                for name, (value, interval) in self.sums.items()
            },
            "terms": [asdict(term) for term in self.terms],
        }


def fill(
    columns: Sequence[Column], *, seed: int = 0, resamples: int = statistics.RESAMPLES
) -> Filled:
    """The scores of all answers there are, with intervals.

    The test rows of a task are resampled together for all stages, since all of them answered the
    same rows; the tests of different tasks are independent of each other.

    Args:
        columns: one for each task; all with the same number of answers.
        seed: of the resampling.
        resamples: of the bootstrap.

    Raises:
        ValueError: columns have different numbers of answers, or there are none.
    """
    rows = {len(column.answers) for column in columns}
    if len(rows) != 1 or rows == {0}:
        raise ValueError("every task needs the answers of the same stages")
    count = rows.pop()
    scores = np.empty((count, len(columns)))
    drawn = np.empty((resamples, count, len(columns)))
    intervals: list[list[Interval]] = [[] for _ in range(count)]
    units = []
    for j, column in enumerate(columns):
        boot = statistics.paired_bootstrap(
            column.answers,
            column.metric.value,
            resamples=resamples,
            seed=seed + j,
            clusters=column.clusters,
        )
        drawn[:, :, j] = boot.values
        units.append(boot.units)
        for i, answers in enumerate(column.answers):
            scores[i, j] = float(column.metric.value(np.asarray(answers).sum(axis=0)))
            intervals[i].append(_interval(column, np.asarray(answers), boot, i))
    return Filled(scores, intervals, drawn, min(units))


def transfer(columns: Sequence[Column], filled: Filled) -> Transfer:
    """Sum a whole matrix up.

    The intervals say how sure the sums are given these tests; nothing of what another seed of
    training would have given.

    Args:
        columns: one for each task that has a test, in the order of the stages.
        filled: of the same columns, with a row for the base and one for every stage.

    Raises:
        ValueError: rows are missing.
    """
    scores = filled.scores
    own = [column.stage for column in columns]
    if len(scores) < max(own) + 1 or len(set(own)) < len(own):
        raise ValueError(f"{len(scores)} rows are no matrix of the stages {own}")
    chance = [column.chance for column in columns]
    point, spread = sums(scores, chance, own), sums(filled.drawn, chance, own)
    terms = zip(
        (column.task for column in columns),
        backward(scores, own),
        forgotten(scores),
        forward(scores, chance, own),
        forward(scores, list(scores[0]), own),
        strict=True,
    )
    return Transfer(
        sums={
            name: (float(value), statistics.expanded_interval(spread[name], filled.units))
            for name, value in point.items()
        },
        terms=tuple(Term(name, *map(float, values)) for name, *values in terms),
    )


def _interval(column: Column, answers: Array, boot: statistics.Bootstrap, row: int) -> Interval:
    """Wilson's where every row is right or wrong by itself, else the bootstrap's."""
    if column.metric.binary and column.clusters is None:
        right = answers[:, 0] > 0.5
        return statistics.wilson_interval(int(right.sum()), len(right))
    return boot.interval(row)
