"""Rows that could not be used, for who wants to go on past them: counted, and listed."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from luthier.errors import InputError
from luthier.files import disk_errors

#: Most refused rows that are kept in memory; all are counted and handed on.
MOST_LISTED = 1000
#: Most kinds of reasons that are told apart.
_MOST_REASONS = 50
_NUMBERS = re.compile(r"\d[\d,]*")


@dataclass(frozen=True)
class RefusedRow:
    """One row that could not be used.

    Attributes:
        source: where it is: "data/train.csv row 12".
        reason: why, and what to do about it.
    """

    source: str
    reason: str


@dataclass
class Refused:
    """Takes the rows that readers and formats cannot use.

    Attributes:
        each: called with every refused row, for example to write it down.
        count: how many there were.
        rows: the first 1,000.
        reasons: how many there were of each kind: the reason without the place and with its
            numbers as N.
    """

    each: Callable[[RefusedRow], None] | None = None
    count: int = 0
    rows: list[RefusedRow] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, source: str, error: InputError) -> None:
        """Note one row: where it is and why it cannot be used."""
        row = RefusedRow(source, str(error))
        self.count += 1
        if len(self.rows) < MOST_LISTED:
            self.rows.append(row)
        kind = _kind(error.message, source)
        if kind not in self.reasons and len(self.reasons) >= _MOST_REASONS:
            kind = "other reasons"
        self.reasons[kind] += 1
        if self.each is not None:
            self.each(row)


@contextlib.contextmanager
def listed_in(path: Path | None) -> Iterator[Refused]:
    """A `Refused` whose rows are written to a JSON Lines file as they come: {source, reason}.

    Args:
        path: a new file; None for none.

    Raises:
        InputError: it is there already.
        RunError: it cannot be written.
    """
    if path is None:
        yield Refused()
        return
    if path.exists():
        raise InputError(f"{path} is there already.", fix="Name another file, or remove it.")
    with disk_errors(path), path.open("x", encoding="utf-8", errors="replace") as file:

        def write(row: RefusedRow) -> None:
            file.write(json.dumps(vars(row), ensure_ascii=False) + "\n")

        yield Refused(each=write)


def _kind(message: str, source: str) -> str:
    """The reason without where it was, so that rows refused for one reason count together."""
    plain = message.replace(source, "", 1).lstrip(" :,").rstrip(".")
    return _NUMBERS.sub("N", plain)[:200]
