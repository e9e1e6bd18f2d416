"""Exact match, and the token F1 of SQuAD (Rajpurkar 2016, 2018).

SQuAD's normalisation: lower case, no punctuation, no articles, single spaces. A reference that is a
JSON list of strings is several right answers: the best match counts. An empty list, an empty
string, or the word "unanswerable" says the question has no answer; then only an answer that says so
is right, the empty one, that word, or "not in the documents". Where a test has such questions, as
SQuAD 2.0, the answers to the others and those that should say so are also counted by themselves.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from luthier.evaluation.metrics.fields import same_fields
from luthier.evaluation.scoring import (
    Array,
    Metric,
    RowMean,
    ScoringRows,
    invalid_for,
    offer,
    ratio,
)

_ARTICLES = re.compile(r"\b(a|an|the)\b")
#: What says that a question has no answer, normalised.
_NO_ANSWER = frozenset({"", "unanswerable", "not in documents"})
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """SQuAD's normalisation, to the letter."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def abstains(text: str) -> bool:
    """Whether an answer says that there is none."""
    return normalise_answer(text) in _NO_ANSWER


def right_answers(reference: str) -> list[str]:
    """The answers a reference allows; [""] for a question without an answer."""
    text = reference.strip()
    if abstains(text):
        return [""]
    if text.startswith("[") and text.endswith("]"):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return [reference]
        if all(isinstance(value, str) for value in values):
            # as the official v2.0 script: answers that normalise to nothing are left out
            return [value for value in values if normalise_answer(value)] or [""]
    return [reference]


def told_answers(reference: str) -> list[str]:
    """The answers a reference allows, as people wrote them and none twice; where it says that there
    is none, its own words for that."""
    if abstains(reference):
        return [reference]
    found: dict[str, str] = {}
    for answer in right_answers(reference):
        found.setdefault(normalise_answer(answer), answer)
    return list(found.values()) if any(found) else [reference]


def exact(reference: str, prediction: str) -> float:
    """1 when the texts are equal after normalisation."""
    return float(normalise_answer(reference) == normalise_answer(prediction))


def token_f1(reference: str, prediction: str) -> float:
    """F1 of the bags of words; for an empty side 1 when both are empty, else 0."""
    wanted, given = normalise_answer(reference).split(), normalise_answer(prediction).split()
    if not wanted or not given:
        return float(wanted == given)
    same = (Counter(wanted) & Counter(given)).total()
    return 2 * same / (len(wanted) + len(given))


def _best(rows: ScoringRows, compare: Callable[[str, str], float]) -> list[float]:
    return [
        max(
            compare(answer, "" if abstains(prediction) else prediction)
            for answer in right_answers(reference)
        )
        for reference, prediction in zip(rows.references, rows.predictions, strict=True)
    ]


@invalid_for("qa")
def _empty(rows: ScoringRows) -> Sequence[bool]:
    return [
        not prediction.strip() and "" not in right_answers(reference)
        for reference, prediction in zip(rows.references, rows.predictions, strict=True)
    ]


class ExactMatch(RowMean):
    """Share of answers that equal the reference.

    qa: after SQuAD's normalisation; extraction: same fields and values; generation: same text
    but for white space.
    """

    name, title, binary = "exact_match", "exact match", True
    kinds = frozenset({"qa", "extraction", "generation"})

    def scores(self, rows: ScoringRows) -> list[float]:
        """1 for an answer that equals the reference."""
        if rows.kind == "qa":
            return _best(rows, exact)
        pairs = zip(rows.references, rows.predictions, strict=True)
        if rows.kind == "extraction":
            return [float(same_fields(r, p, row)) for row, (r, p) in enumerate(pairs, 1)]
        return [float(r.split() == p.split()) for r, p in pairs]


class TokenF1(RowMean):
    """Mean token F1 of SQuAD."""

    name, title, kinds = "f1", "token F1", frozenset({"qa"})

    def scores(self, rows: ScoringRows) -> list[float]:
        """F1 against the best of the right answers."""
        return _best(rows, token_f1)


class OfSomeQuestions(Metric):
    """Token F1 of the questions that have an answer, or of those that have none (there: the share
    of answers that say so); SQuAD 2.0 calls them HasAns and NoAns. It describes."""

    kinds, decides = frozenset({"qa"}), False

    def __init__(self, name: str, title: str, *, answerable: bool) -> None:
        self.name, self.title, self._answerable = name, title, answerable

    def applies(self, rows: ScoringRows) -> bool:
        """Whether there are questions with and without an answer."""
        return len(set(_answerable(rows))) == 2

    def statistics(self, rows: ScoringRows) -> Array:
        """[F1, 1] for a question that counts, [0, 0] for another; (n, 2)."""
        counts = np.array(_answerable(rows)) == self._answerable
        return np.stack([_best(rows, token_f1) * counts, counts], axis=-1).astype(np.float64)

    def value(self, summed: Array) -> Array:
        """Sum of F1 / questions that count."""
        return ratio(summed[..., 0], summed[..., 1])


def _answerable(rows: ScoringRows) -> list[bool]:
    return ["" not in right_answers(reference) for reference in rows.references]


offer(
    ExactMatch(),
    TokenF1(),
    OfSomeQuestions("has_answer_f1", "token F1 of questions with an answer", answerable=True),
    OfSomeQuestions("no_answer_f1", "right abstentions", answerable=False),
)
