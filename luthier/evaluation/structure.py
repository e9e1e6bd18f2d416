"""Structured answers field by field: where precision and recall are lost, and what breaks the
schema.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from luthier.evaluation.metrics.f1 import f1, precision, recall
from luthier.evaluation.metrics.fields import flatten, parse_json, schema_problems
from luthier.evaluation.scoring import ScoringRows

#: Most kinds of problem that are told.
_MOST = 10
_PLACE = re.compile(r"\[\d+\]")
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\[.*\]|\{.*\}|-?\d[\d.eE+-]*")


def structure(rows: ScoringRows) -> dict[str, Any]:
    """What verdict.json says of the structured answers of an arm; nothing for other kinds.

    Returns:
        `fields`: for each field, the most wanted first, how often it is wanted and given, and its
        precision, recall and F1; places in lists are one field. `schema`, where there is one:
        whether the task gives it, the share of answers that are JSON and that are valid, and the
        most frequent problems with their counts.
    """
    if rows.kind != "extraction":
        return {}
    found: dict[str, Any] = {"fields": by_field(rows)}
    if rows.schema is not None:
        problems = schema_problems(rows)
        kinds = Counter(_kind(problem) for problem in problems if problem is not None)
        parsed = sum(parse_json(prediction) is not None for prediction in rows.predictions)
        found["schema"] = {
            "given": rows.schema.given,
            "json_rate": parsed / len(rows),
            "valid_rate": problems.count(None) / len(rows),
            "problems": [{"problem": kind, "count": n} for kind, n in kinds.most_common(_MOST)],
        }
    return found


def by_field(rows: ScoringRows) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each field, from counts over all rows."""
    right: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    given: Counter[str] = Counter()
    for reference, prediction in zip(rows.references, rows.predictions, strict=True):
        expected, answered = flatten(parse_json(reference)), flatten(parse_json(prediction))
        for counted, pairs in (
            (wanted, expected),
            (given, answered),
            (right, expected & answered),
        ):
            for (path, _), count in pairs.items():
                counted[_PLACE.sub("[]", path)] += count
    table = []
    for name in sorted({*wanted, *given}, key=lambda name: (-wanted[name], name)):
        same = right[name]
        counts = np.array([same, given[name] - same, wanted[name] - same], dtype=np.float64)
        table.append(
            {
                "field": name,
                "wanted": wanted[name],
                "given": given[name],
                "precision": float(precision(*counts)),
                "recall": float(recall(*counts)),
                "f1": float(f1(*counts)),
            }
        )
    return table


def _kind(problem: str) -> str:
    """A problem without the values that are in it, so that equal ones are counted together."""
    place, colon, message = problem.partition(": ")
    if not colon:
        place, message = "", problem
    # of a message the value comes first: what was expected, after it, is kept
    value = _VALUES.match(message)
    if value:
        message = f"a value{message[value.end() :]}"
    return f"{_PLACE.sub('[]', place)}: {message}" if place else message
