"""Accuracy, macro F1, Matthews correlation and calibration of a classification.

An answer that is not a label counts as a class of its own that is never right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation.scoring import (
    Array,
    Metric,
    RowMean,
    ScoringRows,
    invalid_for,
    match_label,
    offer,
    ratio,
)

_KINDS = frozenset({"classification"})


def _classes(rows: ScoringRows) -> list[str]:
    """The task's labels, and what other references there are, in a fixed order."""
    labels = list(rows.labels or ())
    others = {r for r in map(str.strip, rows.references) if match_label(r, labels) is None}
    return labels + sorted(others)


def _coded(rows: ScoringRows) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Class numbers of references and predictions, and how many classes there are.

    An invalid prediction has the number that comes after the last class.
    """
    classes = _classes(rows)
    number: dict[str | None, int] = {label: i for i, label in enumerate(classes)}
    number[None] = len(classes)
    seen: dict[str, int] = {}

    def code(text: str) -> int:
        if text not in seen:
            seen[text] = number[match_label(text, classes)]
        return seen[text]

    references = np.array([code(text) for text in rows.references], dtype=np.int64)
    predictions = np.array([code(text) for text in rows.predictions], dtype=np.int64)
    return references, predictions, len(classes)


@invalid_for("classification")
def _not_a_label(rows: ScoringRows) -> Sequence[bool]:
    _, predictions, classes = _coded(rows)
    return list(predictions == classes)


class Accuracy(RowMean):
    """Share of answers that are the right label."""

    name, title, kinds, binary = "accuracy", "accuracy", _KINDS, True

    def scores(self, rows: ScoringRows) -> Array:
        """1 where the answer names the reference's label."""
        references, predictions, _ = _coded(rows)
        return np.asarray(references == predictions, dtype=np.float64)


class MacroF1(Metric):
    """Mean over classes of F1 = 2 TP / (references + predictions of the class).

    Averaged over the classes that occur in references or predictions, as scikit-learn does by
    default; the class of invalid answers is not averaged in (it costs recall), so that one
    malformed answer does not take 1 / classes off.
    """

    name, title, kinds = "macro_f1", "macro F1", _KINDS

    def statistics(self, rows: ScoringRows) -> Array:
        """For each class: right, in the references, in the predictions; (n, 3 * classes)."""
        references, predictions, classes = _coded(rows)
        truth = np.eye(classes + 1)[references][:, :classes]
        given = np.eye(classes + 1)[predictions][:, :classes]
        return np.concatenate([truth * given, truth, given], axis=1)

    def value(self, summed: Array) -> Array:
        """Mean F1 over the classes that occur."""
        right, truth, given = np.split(summed, 3, axis=-1)
        occurs = (truth + given) > 0
        return ratio(ratio(2 * right, truth + given).sum(-1), occurs.sum(-1))

    def row_scores(self, statistics: Array) -> Array:
        """1 for the right label."""
        return np.asarray(statistics[:, : statistics.shape[1] // 3].sum(axis=1))


class Matthews(Metric):
    """Multi-class Matthews correlation (Gorodkin 2004), R_K; from -1 to 1, 0 for guessing.

    With c right of s rows, t_k references and p_k predictions of class k:
    (c s - sum p_k t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)).
    """

    name, title, kinds = "mcc", "Matthews correlation", _KINDS

    def statistics(self, rows: ScoringRows) -> Array:
        """[right, 1, references of each class, predictions of each class]; invalid is a class."""
        references, predictions, classes = _coded(rows)
        right = (references == predictions).astype(np.float64)[:, None]
        one_hot = np.eye(classes + 1)
        return np.concatenate(
            [right, np.ones_like(right), one_hot[references], one_hot[predictions]], axis=1
        )

    def value(self, summed: Array) -> Array:
        """The coefficient; 0 when all references, or all predictions, are of one class."""
        right, rows = summed[..., 0], summed[..., 1]
        truth, given = np.split(summed[..., 2:], 2, axis=-1)
        above = right * rows - (truth * given).sum(-1)
        spread = (rows**2 - (given**2).sum(-1)) * (rows**2 - (truth**2).sum(-1))
        return ratio(above, np.sqrt(np.maximum(spread, 0.0)))

    def row_scores(self, statistics: Array) -> Array:
        """1 for the right label."""
        return statistics[:, 0]


class CalibrationError(Metric):
    """Expected calibration error over 15 equal bins of the top probability (Guo 2017).

    Lower is better, and it needs probabilities: it describes and does not decide.
    """

    name, title, kinds, decides = "ece", "expected calibration error", _KINDS, False
    bins = 15

    def applies(self, rows: ScoringRows) -> bool:
        """Whether every row has probabilities."""
        return rows.probabilities is not None and all(rows.probabilities)

    def statistics(self, rows: ScoringRows) -> Array:
        """For each bin: rows, sum of top probabilities, right ones; (n, 3 * bins)."""
        classes = _classes(rows)
        counts = np.zeros((len(rows), 3, self.bins))
        for i, (reference, chances) in enumerate(
            zip(rows.references, rows.probabilities or (), strict=True)
        ):
            label, top = max((chances or {}).items(), key=lambda pair: pair[1])
            right = match_label(label, classes) == match_label(reference, classes)
            place = min(max(int(np.ceil(top * self.bins)) - 1, 0), self.bins - 1)
            counts[i, :, place] = 1.0, top, float(right)
        return counts.reshape(len(rows), -1)

    def value(self, summed: Array) -> Array:
        """Sum over bins of |right - confidence| / rows."""
        rows, confidence, right = np.split(summed, 3, axis=-1)
        return ratio(np.abs(right - confidence).sum(-1), rows.sum(-1))


offer(Accuracy(), MacroF1(), Matthews(), CalibrationError())
