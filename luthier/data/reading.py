"""Reading rows: which reader a source belongs to, and what all readers share.

A reader is one file in `readers/`. It registers under a file ending (".csv"), under a scheme that
a source starts with ("hub:"), or, for folders, under "folder". Readers give rows one after another
and hold no more of a file than one row (or one batch of rows), so memory does not grow with the
file. What shape the rows have (Alpaca, SQuAD, a chat log, ...) is another question: `format.py`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.data.refused import Refused
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


class Line(SourceRow):
    """A line of a file that is no table: its column is `text`. A format makes rows of lines."""


@dataclass(frozen=True)
class Place:
    """Where a reader reads.

    Attributes:
        shown: the source as the task names it, for messages.
        path: the file or folder on this machine. Of no meaning to a scheme such as "hub:".
        refused: takes the rows that cannot be used; None: the first of them ends the reading.
    """

    shown: str
    path: Path
    refused: Refused | None = None

    def refuse(self, source: str, error: InputError) -> None:
        """Note a row that cannot be used, or raise where nobody asked to go on past it."""
        if self.refused is None:
            raise error
        self.refused.add(source, error)

    def at(self, name: str, path: Path) -> Place:
        """A file of this folder."""
        return Place(f"{self.shown.rstrip('/')}/{name}", path, self.refused)


Reader = Callable[[Place], Iterator[SourceRow]]

#: How the ending of a file in one of several languages looks: .en, .deu, .pt_BR.
_LANGUAGE = re.compile(r"\.[a-z]{2,3}([_-][A-Za-z]{2,4})?")

READERS: Registry[Reader] = Registry("reader", "luthier.data.readers")


def read_rows(source: str, base: Path, *, format: str | None = None) -> list[SourceRow]:
    """All rows of a source, in order; at least one. See `stream_rows`."""
    return list(stream_rows(source, base, format=format))


def stream_rows(
    source: str, base: Path, *, format: str | None = None, refused: Refused | None = None
) -> Iterator[SourceRow]:
    """The rows of a source one after another, in order; at least one.

    Args:
        source: a file, a folder of files of one format, a folder that a chat program exported,
            parallel text files as `name.{en,de}`, or `hub:owner/name[:config][:split]`.
        base: the folder that a relative path starts from.
        format: the name of a format (`format.py`) whose rows are given in place of the file's own;
            "auto" for the format that the first rows look like. None: the rows as they are in the
            file; only lines of text, which are no rows yet, go through the format they look like.
        refused: takes rows that cannot be used, and the reading goes on. None: the first of them
            is an error.

    Raises:
        InputError: the source is missing, of an unknown format, empty or broken; a row that cannot
            be used when there is no `refused`; nothing but such rows when there is. The message
            names the file and the row, line or byte. A missing source is said at once, what is
            inside it when its turn comes.
        ModelError: a hub that cannot be reached.
    """
    place, read = find_reader(source, base, format=format, refused=refused)
    return _guarded(place, read, format)


def find_reader(
    source: str, base: Path, *, format: str | None = None, refused: Refused | None = None
) -> tuple[Place, Reader]:
    """Where a source is and what reads it.

    Args:
        source, base, format, refused: as for `stream_rows`. A file whose ending is unknown is read
            as lines of text when the format is made of lines.

    Raises:
        InputError: it is missing, or of an unknown format.
    """
    if not source.strip():
        raise InputError("No file is named: `data.train` and its like must not be blank.")
    for scheme in READERS.names():
        if scheme.endswith(":") and source.startswith(scheme):
            return Place(source, base, refused), READERS.get(scheme)
    if "://" in source:
        raise InputError(
            f"{source} is an address, and rows are read from files.",
            fix="Download the file first, or name a data set as hub:owner/name.",
        )
    try:
        place = Place(source, base / Path(source).expanduser(), refused)
        if place.path.is_dir():
            return place, READERS.get("folder")
        if place.path.exists():
            return place, _reader_of(place, format)
        if "{" in place.path.name:
            return place, READERS.get("parallel")
        raise _missing(place)
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a home of nobody
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise InputError(f"{source} cannot be read: {reason}.") from None


def _guarded(place: Place, read: Reader, format: str | None) -> Iterator[SourceRow]:
    """The rows of a reader, through a format, with errors of the disk in one clear line."""
    before = place.refused.count if place.refused else 0
    found = False
    try:
        for row in _shaped(place, read(place), format):
            found = True
            yield row
    except OSError as error:
        raise InputError(f"{place.shown} cannot be read: {error.strerror or error}.") from None
    if not found:
        refused = place.refused.count - before if place.refused else 0
        if refused:
            raise InputError(
                f"{place.shown}: none of its {refused:,} rows can be used.",
                fix=f"The first: {place.refused.rows[0].reason}" if place.refused else "",
            )
        raise InputError(f"{place.shown} has no rows.", fix="Put rows into it.")


def _shaped(place: Place, rows: Iterator[SourceRow], format: str | None) -> Iterator[SourceRow]:
    if format is None:
        first = next(rows, None)
        if first is None:
            return
        rows = _again(first, rows)
        if not isinstance(first, Line):
            yield from rows
            return
    from luthier.data.format import shape

    yield from shape(place, rows, format or "auto")


def _again(first: SourceRow, rest: Iterator[SourceRow]) -> Iterator[SourceRow]:
    yield first
    yield from rest


def endings() -> list[str]:
    """The file endings that can be read, such as ".csv"."""
    return [name for name in READERS.names() if name.startswith(".")]


def _reader_of(place: Place, format: str | None) -> Reader:
    ending = place.path.suffix.lower()
    if ending not in endings():
        if format not in (None, "auto"):
            from luthier.data.format import named

            if named(format or "")[0].of_lines:
                return READERS.get(".txt")
        if partner(place.path) is not None:
            return READERS.get("parallel")
        raise InputError(
            f"{place.shown} ends in {ending!r}, which is no format that rows are read from."
            if ending
            else f"{place.shown} has no file ending, so its format is unknown.",
            fix=f"Rename or convert it; known endings: {', '.join(endings())}.",
        )
    return READERS.get(ending)


def partner(path: Path) -> Path | None:
    """The file of the same name in another language, where there is exactly one: train.de for
    train.en."""
    if not _LANGUAGE.fullmatch(path.suffix):
        return None
    others = [
        other
        for other in path.parent.iterdir()
        if other.stem == path.stem
        and other.suffix != path.suffix
        and _LANGUAGE.fullmatch(other.suffix)
        and other.suffix.lower() not in endings()
        and other.is_file()
    ]
    return others[0] if len(others) == 1 else None


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


def check_columns(names: Iterable[str], place: Place) -> None:
    """Raise `InputError` when two columns have one name: which of them is meant?"""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(
                f"{place.shown} has two columns called {name!r}.", fix="Rename one of them."
            )
        seen.add(name)


def twice(pairs: Iterable[tuple[str, Any]]) -> str:
    """The first key that comes a second time; one does."""
    return next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"an object has two keys called {twice(pairs)!r}")
    return values


#: Made once: `json.loads` makes a decoder for each call with options, and there are millions.
_JSON = json.JSONDecoder(parse_constant=lambda _: None, object_pairs_hook=_unique)


def parse_json(text: str) -> Any:
    """Parse one JSON document; NaN and Infinity become None.

    Raises:
        ValueError: broken JSON (`json.JSONDecodeError`, with the position), an object that names
            a key twice, or nesting too deep to read.
    """
    if text.startswith("\ufeff"):
        raise json.JSONDecodeError("Unexpected UTF-8 BOM", text, 0)
    try:
        return _JSON.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


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
