"""Pairs of answers that people labelled, to hold a judge against.

A JSON list or JSON lines. Each row has the question (`question`, or `instruction` with `input`),
both answers (`first` and `second`, or `response1` and `response2`) and what people said: `label`,
or several of `annotator1`, `annotator2`, ...; 1 for the first answer, 2 for the second, 0 for a
tie. The majority counts; a row on which no two agree is a tie.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.errors import InputError
from luthier.files import read_json

_PREFERENCES = {1: 1, 2: -1, 0: 0}


@dataclass(frozen=True)
class LabelledPair:
    """Two answers and what people said of them.

    Attributes:
        labels: of each person: 1 the first is better, -1 the second, 0 a tie.
    """

    question: str
    first: str
    second: str
    labels: tuple[int, ...]

    @property
    def preference(self) -> int:
        """What most of them said; a tie where no label has more than another."""
        ranked = Counter(self.labels).most_common(2)
        return 0 if len(ranked) == 2 and ranked[0][1] == ranked[1][1] else ranked[0][0]


def labelled_pairs(path: Path) -> list[LabelledPair]:
    """Read a file of labelled pairs.

    Raises:
        InputError: a missing or broken file, or a row without question, answers or label; the
            message names the row.
    """
    if path.suffix == ".jsonl":
        rows: Any = []
        try:
            lines = path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            raise InputError(f"{path} does not exist.") from None
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    rows.append(json.loads(line))
            except ValueError as error:
                raise InputError(f"{path} line {number}: {error}.") from None
    else:
        rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} holds no list of objects.")
    return [_pair(row, f"{path} row {number}") for number, row in enumerate(rows, 1)]


def _pair(row: Mapping[str, Any], where: str) -> LabelledPair:
    question = row.get("question", row.get("instruction"))
    first, second = row.get("first", row.get("response1")), row.get("second", row.get("response2"))
    if question is None or first is None or second is None:
        raise InputError(
            f"{where} lacks the question or an answer.",
            fix="Name them question, first and second (or instruction, response1, response2).",
        )
    more = str(row.get("input") or "").strip()
    keys = sorted(key for key in row if key == "label" or key.startswith("annotator"))
    labels = []
    for key in keys:
        if isinstance(row[key], bool) or row[key] not in _PREFERENCES:
            raise InputError(
                f"{where}: `{key}` is {row[key]!r}.",
                fix="Write 1 for the first answer, 2 for the second, 0 for a tie.",
            )
        labels.append(_PREFERENCES[row[key]])
    if not labels:
        raise InputError(f"{where} has no label.", fix="Name it label, or annotator1, annotator2.")
    whole = f"{question}\n\n{more}" if more else str(question)
    # a text such as True may have become a truth value on its way through JSON
    return LabelledPair(whole, str(first), str(second), tuple(labels))
