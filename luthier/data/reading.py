"""Reading rows: which reader a source belongs to, and what all readers share.

A reader is one file in `readers/`. It registers under a file ending (".csv"), under a scheme that
a source starts with ("hub:"), or, for folders, under "folder".
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.data.decoding import decode
from luthier.errors import InputError, did_you_mean
from luthier.registry import Registry


@dataclass(frozen=True)
class SourceRow:
    """One row as it was read.

    Attributes:
        values: column name to value. JSON and Parquet values keep their types; csv and tsv values
            are text. A missing value (null, NaN) is None.
        source: where it was read, for messages to people: "data/train.csv row 12" (1-based, the
            header not counted), "data/train.jsonl line 12".
    """

    values: dict[str, Any]
    source: str


@dataclass(frozen=True)
class Place:
    """Where a reader reads.

    Attributes:
        shown: the source as the task names it, for messages.
        path: the file or folder on this machine. Of no meaning to a scheme such as "hub:".
    """

    shown: str
    path: Path


Reader = Callable[[Place], list[SourceRow]]

READERS: Registry[Reader] = Registry("reader", "luthier.data.readers")


def read_rows(source: str, base: Path) -> list[SourceRow]:
    """All rows of a source, in order; at least one.

    Args:
        source: a file, a folder of files of one format, or `hub:owner/name[:config][:split]`.
        base: the folder that a relative path starts from.

    Raises:
        InputError: the source is missing, of an unknown format, empty or broken. The message
            names the file and the row, line or byte.
        ModelError: a hub that cannot be reached.
    """
    if not source.strip():
        raise InputError("No file is named: `data.train` and its like must not be blank.")
    for scheme in READERS.names():
        if scheme.endswith(":") and source.startswith(scheme):
            return READERS.get(scheme)(Place(source, base))
    if "://" in source:
        raise InputError(
            f"{source} is an address, and rows are read from files.",
            fix="Download the file first, or name a data set as hub:owner/name.",
        )
    path = base / Path(source).expanduser()
    place = Place(source, path)
    try:
        if path.is_dir():
            return READERS.get("folder")(place)
        if not path.exists():
            raise _missing(place)
        return _reader_of(place)(place)
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}.") from None


def endings() -> list[str]:
    """The file endings that can be read, such as ".csv"."""
    return [name for name in READERS.names() if name.startswith(".")]


def _reader_of(place: Place) -> Reader:
    ending = place.path.suffix.lower()
    if ending not in endings():
        raise InputError(
            f"{place.shown} ends in {ending!r}, which is no format that rows are read from."
            if ending
            else f"{place.shown} has no file ending, so its format is unknown.",
            fix=f"Rename or convert it; known endings: {', '.join(endings())}.",
        )
    return READERS.get(ending)


def _missing(place: Place) -> InputError:
    """The error for a path that is not there: what is near it."""
    folder = place.path.parent
    if not folder.is_dir():
        return InputError(
            f"{place.shown} does not exist: there is no folder {folder}.",
            fix="Paths in a task file start from the folder the task file is in.",
        )
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    near = difflib.get_close_matches(place.path.name, names, n=3, cutoff=0.6)
    if not near:
        near = [n for n in names if Path(n).suffix.lower() in endings()][:5]
    hint = f"Did you mean {' or '.join(near)}?" if near else f"No rows are in {folder}."
    return InputError(f"{place.shown} does not exist (looked for {place.path}).", fix=hint)


# What readers share.


def read_text(place: Place) -> str:
    """The file's text.

    Raises:
        InputError: empty, not UTF-8, or NUL bytes inside; the message names the byte.
    """
    text = decode(place.path.read_bytes(), place.shown)
    if not text.strip():
        raise InputError(f"{place.shown} is empty.", fix="Put rows into it, or name another file.")
    return text


def check_columns(names: Iterable[str], place: Place) -> None:
    """Raise `InputError` when two columns have one name: which of them is meant?"""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(
                f"{place.shown} has two columns called {name!r}.", fix="Rename one of them."
            )
        seen.add(name)


def parse_json(text: str) -> Any:
    """Parse one JSON document; NaN and Infinity become None.

    Raises:
        ValueError: broken JSON (`json.JSONDecodeError`, with the position), an object that names
            a key twice, or nesting too deep to read.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"an object has two keys called {twice!r}")
        return values

    try:
        return json.loads(text, parse_constant=lambda _: None, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def without_nan(value: Any) -> Any:
    """The value with every NaN, at any depth, turned into None."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return value


class MissingColumnError(InputError):
    """A task key names a column which a row does not have.

    Attributes:
        key: the task's key ("data.input").
        column: the name.
    """

    def __init__(self, key: str, column: str, row: SourceRow) -> None:
        self.key = key
        self.column = column
        columns = sorted(row.values)
        listed = ", ".join(columns[:30]) + ", ..." * (len(columns) > 30)
        near = did_you_mean(column, columns)
        super().__init__(
            f"`{key}` names the column {column!r}, which {row.source} does not have. "
            f"Its columns: {listed}.",
            fix=near if near.startswith("Did you") else "",
        )
