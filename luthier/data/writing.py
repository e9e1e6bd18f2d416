"""Writing rows: the kinds of file that rows are written to, told from the file's ending.

A kind is one file in `writers/`, which registers itself under its endings.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.data.plain import plain
from luthier.errors import InputError
from luthier.registry import Registry

Values = dict[str, Any]
#: Gives all rows from the first, as often as it is called.
Rows = Callable[[], Iterator[Values]]


def _any_row(_: Values) -> None:
    """Every row can be held."""


@dataclass(frozen=True)
class FileKind:
    """One kind of file.

    Attributes:
        name: as in `--to`: "csv".
        write: all rows into a new file; what the kind cannot hold is counted. It raises
            `InputError` for rows that it cannot hold together.
        check: raises `InputError` for a row that it cannot hold at all.
        as_lines: whether a file of it is one JSON object a line, which needs no rewriting.
    """

    name: str
    write: Callable[[Rows, Path, Counter[str]], None]
    check: Callable[[Values], None] = _any_row
    as_lines: bool = False


WRITERS: Registry[FileKind] = Registry("file ending", "luthier.data.writers")


def kinds() -> dict[str, FileKind]:
    """Every kind of file by its name."""
    return {kind.name: kind for _, kind in WRITERS}


def kind_of(path: Path) -> FileKind:
    """The kind of a file by its ending.

    Raises:
        InputError: no kind that rows are written to.
    """
    ending = path.suffix.lower()
    if ending not in WRITERS:
        raise InputError(
            f"{path} ends in {ending!r}, which is no kind of file that rows are written to."
            if ending
            else f"{path} has no file ending, so it is not known what kind of file it shall be.",
            fix=f"End its name in one of {', '.join(WRITERS.names())}.",
        )
    return WRITERS.get(ending)


def json_text(value: Any) -> str:
    """A value as one line of JSON; numbers that JSON has no name for are null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)
