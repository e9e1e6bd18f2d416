"""Metrics: how answers are held against references, and what is kept of it for the statistics.

Every metric is a function of *summed sufficient statistics*: each row of the test gives k numbers,
the numbers are added up over rows, and the value is computed from the sums. A mean is the pair
[score, 1]; micro F1 is [true positives, false positives, false negatives]; BLEU is its n-gram
counts. Resampling a test set is then a matrix product (see `luthier.evaluation.statistics`), and
the value of a corpus metric is the corpus value, not a mean of sentence values.

All scores are fractions of 1. One file in `luthier/evaluation/metrics/` is one metric, or a family
that shares its counts; a new file is found by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from luthier.errors import InputError, did_you_mean
from luthier.registry import Registry

if TYPE_CHECKING:
    from luthier.data.schemas import AnswerSchema

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ScoringRows:
    """The answers of one arm to the rows of one split, in the split's order.

    Attributes:
        kind: the task's kind; decides what an invalid answer is.
        inputs: what was asked; the last user turn.
        references: the right answers.
        predictions: the answers given.
        labels: the labels of a classification; None infers them from the references.
        probabilities: for each row the probability of each label, where the arm gives them.
        schema: what structured answers are held against, where there is something.
        judged: what a judge said of each answer against its reference: 1 better, 0 worse, 0.5
            neither; None where none was asked.
    """

    kind: str
    inputs: Sequence[str]
    references: Sequence[str]
    predictions: Sequence[str]
    labels: tuple[str, ...] | None = None
    probabilities: Sequence[Mapping[str, float] | None] | None = None
    schema: AnswerSchema | None = None
    judged: Sequence[float] | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.inputs), len(self.references), len(self.predictions)}
        if self.probabilities is not None:
            sizes.add(len(self.probabilities))
        if len(sizes) != 1:
            raise ValueError(f"inputs, references and predictions differ in length: {sizes}")

    def __len__(self) -> int:
        return len(self.references)


class Metric(ABC):
    """One way of holding answers against references.

    Attributes:
        name: as written in task.yaml.
        title: in plain words, for sentences such as "88.5 % accuracy".
        kinds: the kinds of task it suits.
        binary: every row is right (1) or wrong (0) and the value is their mean; such metrics get
            exact statistics (Wilson, McNemar) where others are resampled.
        decides: whether a comparison may be decided by it (higher is better, within [-1, 1]).
    """

    name: str
    title: str
    kinds: frozenset[str]
    binary: bool = False
    decides: bool = True

    @abstractmethod
    def statistics(self, rows: ScoringRows) -> Array:
        """Sufficient statistics of each row, (n, k)."""

    @abstractmethod
    def value(self, summed: Array) -> Array:
        """The metric from summed statistics: (..., k) to (...), never NaN."""

    def row_scores(self, statistics: Array) -> Array:
        """What each row is said to score, (n,); by default the value of the row alone."""
        return self.value(statistics)

    def applies(self, rows: ScoringRows) -> bool:
        """Whether these rows hold what the metric needs."""
        return True

    def signature(self) -> str:
        """What somebody needs to know to compute the same number elsewhere."""
        return self.name


class RowMean(Metric):
    """A metric whose value is the mean of a score for each row."""

    @abstractmethod
    def scores(self, rows: ScoringRows) -> Sequence[float] | Array:
        """The score of each row, (n,)."""

    def statistics(self, rows: ScoringRows) -> Array:
        """[score, 1] for each row."""
        scores = np.asarray(self.scores(rows), dtype=np.float64)
        return np.stack([scores, np.ones_like(scores)], axis=-1)

    def value(self, summed: Array) -> Array:
        """Sum of scores / rows."""
        return ratio(summed[..., 0], summed[..., 1])


@dataclass(frozen=True, eq=False)
class Scored:
    """One arm's result by one metric.

    Attributes:
        value: the metric over all rows.
        row_scores: (n,), what predictions.jsonl holds as `score`.
        statistics: (n, k), what comparisons are computed from.
        invalid_rate: share of answers that have not the form the kind of task asks for.
    """

    value: float
    row_scores: Array
    statistics: Array
    invalid_rate: float


METRICS: Registry[Metric] = Registry("metric", "luthier.evaluation.metrics")

#: For a kind of task: which rows, (n,) of bool, have an answer that has not the form asked for.
_INVALID: dict[str, Callable[[ScoringRows], Sequence[bool]]] = {}


def offer(*metrics: Metric) -> None:
    """Register metrics under their names."""
    for metric in metrics:
        METRICS.register(metric.name)(metric)


def invalid_for(
    kind: str,
) -> Callable[[Callable[[ScoringRows], Sequence[bool]]], Callable[[ScoringRows], Sequence[bool]]]:
    """Decorator: say which answers of a kind of task are invalid. Otherwise: the empty ones."""

    def add(
        function: Callable[[ScoringRows], Sequence[bool]],
    ) -> Callable[[ScoringRows], Sequence[bool]]:
        _INVALID[kind] = function
        return function

    return add


def ratio(above: Any, below: Any, empty: Any = 0.0) -> Array:
    """`above / below`, and `empty` where `below` is zero."""
    above, below = np.broadcast_arrays(
        np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    )
    out = np.array(np.broadcast_to(np.asarray(empty, dtype=np.float64), below.shape))
    np.divide(above, below, out=out, where=below != 0)
    return out


def metrics_for(kind: str, rows: ScoringRows | None = None) -> list[str]:
    """Names of the metrics a task of this kind can be decided by, sorted.

    Given `rows`, also those that only describe (length ratio, calibration), where the rows hold
    what they need.
    """
    return [
        name
        for name, metric in METRICS
        if kind in metric.kinds and (metric.decides if rows is None else metric.applies(rows))
    ]


def metric_for(name: str, kind: str) -> Metric:
    """The metric called `name`, when it suits tasks of this kind.

    Raises:
        InputError: no such metric, or one for other kinds; the nearest name that suits is named.
    """
    suited = [known for known, metric in METRICS if kind in metric.kinds]
    if name not in METRICS:
        raise InputError(f"Unknown metric {name!r}.", fix=did_you_mean(name, suited))
    metric = METRICS.get(name)
    if kind not in metric.kinds:
        raise InputError(
            f"The metric {name!r} does not suit a task of kind {kind}.",
            fix=f"Choose one of: {', '.join(metrics_for(kind))}.",
        )
    return metric


def deciding_metric(name: str, kind: str) -> Metric:
    """As `metric_for`, for the metric that decides a comparison.

    Raises:
        InputError: also when the metric only describes (a length ratio cannot be maximised).
    """
    metric = metric_for(name, kind)
    if not metric.decides:
        raise InputError(
            f"The metric {name!r} describes answers; no comparison can be decided by it.",
            fix=f"Choose one of: {', '.join(metrics_for(kind))}.",
        )
    return metric


def score(metric_name: str, rows: ScoringRows) -> Scored:
    """Score one arm's answers by one metric.

    Raises:
        InputError: an unknown or unsuited metric, no rows, or a reference that cannot be read
            (the message names the row, counted from 1).
    """
    metric = metric_for(metric_name, rows.kind)
    if len(rows) == 0:
        raise InputError("There are no rows to score: the split is empty.")
    if not metric.applies(rows):
        raise InputError(f"These answers hold not what the metric {metric_name!r} needs.")
    statistics = np.asarray(metric.statistics(rows), dtype=np.float64)
    return Scored(
        value=float(metric.value(statistics.sum(axis=0))),
        row_scores=metric.row_scores(statistics),
        statistics=statistics,
        invalid_rate=float(np.mean(np.asarray(invalid_rows(rows), dtype=bool))),
    )


def invalid_rows(rows: ScoringRows) -> Sequence[bool]:
    """For each row whether its answer has not the form the kind of task asks for.

    classification: not a label; ner: a line that is not `type: surface`; extraction: not a JSON
    object or array, or not valid against the schema that the task gives; other kinds: empty.
    """
    METRICS.names()  # the rules are found together with the metrics
    rule = _INVALID.get(rows.kind)
    if rule is not None:
        return rule(rows)
    return [not prediction.strip() for prediction in rows.predictions]


_QUOTES = "\"'`*“”‘’«»"
_TRAILING = ".!,:"


def match_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that an answer names, or None.

    White space, surrounding quotes and markdown stars, and trailing . ! , : are taken off; then
    the text must equal a label, ignoring case where that leaves no doubt. Nothing fuzzier: an arm
    that writes a sentence around the label has not answered in the form asked for.
    """
    folded: dict[str, list[str]] = {}
    for label in labels:
        folded.setdefault(label.strip().casefold(), []).append(label)
    previous = None
    while text != previous:
        if text in labels:
            return text
        found = folded.get(text.casefold(), [])
        if len(found) == 1:
            return found[0]
        previous = text
        text = _peel(text)
    return None


def _peel(text: str) -> str:
    """Take one layer off: white space, else trailing punctuation, else quotes and stars."""
    for peeled in (text.strip(), text.rstrip(_TRAILING), text.strip(_QUOTES)):
        if peeled != text:
            return peeled
    return text
