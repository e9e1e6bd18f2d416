"""Comma-separated values with a header, RFC 4180."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from luthier.data.writing import WRITERS, FileKind, Rows, Values, json_text
from luthier.errors import InputError


def write_csv(rows: Rows, path: Path, lost: Counter[str]) -> None:
    """A header of all columns, then a record a row; the rows are gone through twice.

    A missing value is an empty field, a list or an object its JSON text, and what is no text
    becomes text.

    Raises:
        InputError: columns whose names would not be read again as they are.
    """
    columns: dict[str, None] = {}
    for values in rows():
        columns.update(dict.fromkeys(values))
    _check_header(list(columns))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(columns)
        for values in rows():
            writer.writerow([_field(values.get(name), lost) for name in columns])


def _check_header(columns: list[str]) -> None:
    for name in columns:
        if name != name.strip() or not name or name.startswith("\ufeff"):
            raise InputError(
                f"A csv file cannot have a column called {name!r}: it would be read by another "
                "name.",
                fix="Write JSON Lines or Parquet, or rename the column.",
            )


def _field(value: Any, lost: Counter[str]) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list | dict):
        lost[
            "the types of lists and objects, which csv holds as JSON text; turns are read again"
        ] += 1
    else:
        lost["the types of numbers and truth values, which csv holds as text"] += 1
    return json_text(value)


def _check(values: Values) -> None:
    for name, value in values.items():
        if "\0" in name or (isinstance(value, str) and "\0" in value):
            raise InputError(f"The column {name!r} holds a NUL, which csv cannot hold.")


WRITERS.register(".csv")(FileKind("csv", write_csv, check=_check))
