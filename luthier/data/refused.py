"""Rows that could not be used, for who wants to go on past them: counted, and listed."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

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
    _noted: IO[bytes] | None = field(default=None, repr=False)

    def add(self, source: str, error: InputError) -> None:
        """Note one row: where it is and why it cannot be used."""
        self._add(RefusedRow(source, str(error)), _kind(error.message, source))

    @contextlib.contextmanager
    def noted(self) -> Iterator[IO[bytes]]:
        """A temporary file that gets the rows which are refused inside the block, for `take`."""
        with tempfile.SpooledTemporaryFile(max_size=1 << 20) as file:
            self._noted = file
            try:
                yield file
            finally:
                self._noted = None

    def take(self, path: Path) -> None:
        """The rows of a file that `noted` gave, as if they were refused again.

        Raises:
            InputError: it is not whole.
        """
        try:
            with path.open(encoding="ascii") as lines:
                for line in lines:
                    source, reason, kind = json.loads(line)
                    self._add(RefusedRow(source, reason), kind)
        except (OSError, ValueError):
            raise InputError(
                f"{path} is damaged.", fix=f"Remove the folder {path.parent} and read anew."
            ) from None

    def _add(self, row: RefusedRow, kind: str) -> None:
        if self._noted is not None:
            said = json.dumps([row.source, row.reason, kind], ensure_ascii=True)
            self._noted.write(said.encode() + b"\n")
        self.count += 1
        if len(self.rows) < MOST_LISTED:
            self.rows.append(row)
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
    if message.startswith(source):
        plain = message.removeprefix(source).lstrip(" :,").rstrip(".")
    else:
        plain = message.replace(source, "the row", 1).rstrip(".")
    return _NUMBERS.sub("N", plain)[:200]
