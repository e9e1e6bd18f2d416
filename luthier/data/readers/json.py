"""One JSON document: an array of objects, or an object that holds one such array."""

from __future__ import annotations

import json
from typing import Any

from luthier.data.reading import READERS, Place, SourceRow, parse_json, read_text
from luthier.errors import InputError


@READERS.register(".json")
def read_json(place: Place) -> list[SourceRow]:
    """Read a JSON file; values keep their types. Rows are counted from 1.

    Raises:
        InputError: broken JSON, with its line; neither of the two shapes; no rows.
    """
    text = read_text(place)
    try:
        document = parse_json(text)
    except json.JSONDecodeError as error:
        hint = (
            "It holds one object a line: end the file's name in .jsonl instead of .json."
            if error.msg == "Extra data"
            else ""
        )
        raise InputError(
            f"{place.shown} line {error.lineno}, column {error.colno}: broken JSON: {error.msg}.",
            fix=hint,
        ) from None
    except ValueError as error:
        raise InputError(f"{place.shown}: {error}.") from None
    items = _rows_of(document, place)
    if not items:
        raise InputError(f"{place.shown} holds an empty list.", fix="Put rows into it.")
    rows = []
    for number, values in enumerate(items, 1):
        if not isinstance(values, dict):
            raise InputError(
                f"{place.shown} row {number} is no object with column names.",
                fix='Write it as {"column": value, ...}.',
            )
        rows.append(SourceRow(values, f"{place.shown} row {number}"))
    return rows


def _rows_of(document: Any, place: Place) -> list[Any]:
    if isinstance(document, list):
        return document
    wanted = "a list of objects, or an object with one key that holds such a list"
    if not isinstance(document, dict):
        raise InputError(f"{place.shown} holds no rows: expected {wanted}.")
    lists = {
        key: value
        for key, value in document.items()
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    }
    if len(lists) > 1:
        raise InputError(
            f"{place.shown} holds several lists of objects: {', '.join(sorted(lists))}.",
            fix="Keep one of them in the file.",
        )
    if not lists:
        raise InputError(
            f"{place.shown} holds no rows: expected {wanted}; its keys are "
            f"{', '.join(sorted(document)[:10]) or 'none'}.",
            fix="Write one object a row (in pandas: to_json(..., orient='records')).",
        )
    return next(iter(lists.values()))
