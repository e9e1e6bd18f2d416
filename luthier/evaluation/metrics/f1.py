"""Micro precision, recall and F1 from counts: shared by spans (ner) and fields (extraction)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np

from luthier.evaluation.scoring import Array, Metric, ScoringRows, ratio

#: Each turns (true positives, false positives, false negatives) into a score.
Formula = Callable[[Array, Array, Array], Array]


def precision(right: Array, extra: Array, missed: Array) -> Array:
    """Right / given. With nothing given: 1 when nothing was there to give, else 0."""
    return ratio(right, right + extra, empty=missed == 0)


def recall(right: Array, extra: Array, missed: Array) -> Array:
    """Right / wanted. With nothing wanted: 1 when nothing was given, else 0."""
    return ratio(right, right + missed, empty=extra == 0)


def f1(right: Array, extra: Array, missed: Array) -> Array:
    """2 TP / (2 TP + FP + FN). With nothing wanted and nothing given: 1."""
    return ratio(2 * right, 2 * right + extra + missed, empty=1.0)


class Counted(Metric):
    """A score computed from summed true positives, false positives and false negatives."""

    def __init__(self, name: str, title: str, formula: Formula) -> None:
        self.name, self.title, self._formula = name, title, formula

    @abstractmethod
    def counts(self, rows: ScoringRows) -> list[tuple[int, int, int]]:
        """(true positives, false positives, false negatives) of each row."""

    def statistics(self, rows: ScoringRows) -> Array:
        """The counts, (n, 3)."""
        return np.array(self.counts(rows), dtype=np.float64).reshape(len(rows), 3)

    def value(self, summed: Array) -> Array:
        """The formula applied to the counts."""
        return self._formula(summed[..., 0], summed[..., 1], summed[..., 2])
