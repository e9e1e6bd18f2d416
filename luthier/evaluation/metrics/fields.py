"""Field precision, recall and F1 of structured answers, and the share that is JSON at all.

A nested JSON value is flattened to (path, value) pairs. Lists of plain values are sets with
repeats (their order does not count); objects in lists are told apart by position. Empty values
(null, "", [], {}) say nothing and make no pair. Values are compared after collapsing white space,
ignoring case, and reading numbers as numbers (3, "3" and 3.0 are the same; "1,200" is 1200).

An answer may stand in one markdown code fence. An answer that is not a JSON object or array gives
no fields, so all wanted ones are missed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, DecimalException
from typing import Any

from luthier.errors import InputError
from luthier.evaluation.metrics.f1 import Counted, f1, precision, recall
from luthier.evaluation.scoring import RowMean, ScoringRows, invalid_for, offer

Pairs = Counter[tuple[str, str]]

_FENCE = re.compile(r"\A```[A-Za-z]*\s*\n(.*?)\n?```\Z", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?([eE][-+]?\d{1,6})?")


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def parse_json(text: str) -> dict[str, Any] | list[Any] | None:
    """The object or array that an answer is, or None. NaN and Infinity are not JSON."""
    text = text.strip()
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def flatten(value: Any) -> Pairs:
    """(path, normalised value) pairs of a JSON value, with repeats counted."""
    pairs: Pairs = Counter()
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:  # not recursive: answers may be nested as deep as a model cares to write
        path, item = stack.pop()
        if isinstance(item, dict):
            stack.extend((f"{path}.{key}" if path else str(key), v) for key, v in item.items())
        elif isinstance(item, list):
            stack.extend(
                (f"{path}[{i}]" if isinstance(v, dict | list) else f"{path}[]", v)
                for i, v in enumerate(item)
            )
        elif normal := _normalise(item):
            pairs[path, normal] += 1
    return pairs


def _normalise(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = " ".join(str(value).split()).casefold()
    if _NUMBER.fullmatch(text):
        try:
            return str(Decimal(text.replace(",", "")).normalize() + 0)
        except DecimalException:
            return text
    return text


def _reference(text: str, row: int) -> Pairs:
    value = parse_json(text)
    if value is None:
        raise InputError(
            f"The reference of row {row} of the scored split is not a JSON object or array: "
            f"{text[:60]!r}.",
            fix="Make `output` render as JSON (`{{ row | tojson }}`), or choose another kind.",
        )
    return flatten(value)


@invalid_for("extraction")
def _not_json(rows: ScoringRows) -> Sequence[bool]:
    if rows.schema is not None and rows.schema.given:
        return [problem is not None for problem in schema_problems(rows)]
    return [parse_json(prediction) is None for prediction in rows.predictions]


def schema_problems(rows: ScoringRows) -> list[str | None]:
    """For each answer what is wrong with it against the rows' schema; None for nothing."""
    assert rows.schema is not None
    problems: list[str | None] = []
    for prediction in rows.predictions:
        value = parse_json(prediction)
        problems.append("it is not JSON" if value is None else rows.schema.problem(value))
    return problems


class Fields(Counted):
    """Counts of fields with the right value."""

    kinds = frozenset({"extraction"})

    def counts(self, rows: ScoringRows) -> list[tuple[int, int, int]]:
        """(right, spurious, missed) fields of each row."""
        counted = []
        for number, (text, prediction) in enumerate(
            zip(rows.references, rows.predictions, strict=True), 1
        ):
            wanted = _reference(text, number)
            answer = parse_json(prediction)
            given = flatten(answer) if answer is not None else Counter()
            right = (wanted & given).total()
            # where nothing was wanted, an answer that cannot be read must not count as perfect
            extra = int(answer is None and not wanted)
            counted.append((right, given.total() - right + extra, wanted.total() - right))
        return counted


class JsonValid(RowMean):
    """Share of answers that are a JSON object or array."""

    name, title, kinds, binary = "json_valid", "valid JSON", frozenset({"extraction"}), True

    def scores(self, rows: ScoringRows) -> list[float]:
        """1 for an answer that is JSON."""
        return [float(parse_json(prediction) is not None) for prediction in rows.predictions]


def same_fields(reference: str, prediction: str, row: int) -> bool:
    """Whether an answer is JSON with exactly the reference's fields and values."""
    answer = parse_json(prediction)
    return flatten(answer) == _reference(reference, row) if answer is not None else False


offer(
    Fields("field_f1", "field F1", f1),
    Fields("field_precision", "field precision", precision),
    Fields("field_recall", "field recall", recall),
    JsonValid(),
)
