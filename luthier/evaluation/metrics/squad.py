"""Exact match, and the token F1 of SQuAD (Rajpurkar 2016, 2018).

SQuAD's normalisation: lower case, no punctuation, no articles, single spaces. A reference that is a
JSON list of strings is several right answers: the best match counts. An empty list, or an empty
string, says the question has no answer; then only an empty answer is right.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from luthier.evaluation.metrics.fields import same_fields
from luthier.evaluation.scoring import RowMean, ScoringRows, invalid_for, offer

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """SQuAD's normalisation, to the letter."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def right_answers(reference: str) -> list[str]:
    """The answers a reference allows; [""] for a question without an answer."""
    text = reference.strip()
    if text.startswith("[") and text.endswith("]"):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return [reference]
        if all(isinstance(value, str) for value in values):
            # as the official v2.0 script: answers that normalise to nothing are left out
            return [value for value in values if normalise_answer(value)] or [""]
    return [reference]


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
        max(compare(answer, prediction) for answer in right_answers(reference))
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


offer(ExactMatch(), TokenF1())
