"""What csv and tsv share: a header and records of as many fields."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from luthier.data import lines
from luthier.data.reading import Place, SourceRow, check_columns
from luthier.errors import InputError

_LONE_RETURN = re.compile(r"(?<=\r)(?!\n)")


def delimited_rows(place: Place, delimiter: str) -> Iterator[SourceRow]:
    """The rows of delimited text with RFC 4180 quoting; blank lines are left out.

    Raises:
        InputError: see `named_rows`; broken quoting, and a record longer than a line may be, are
            refused with the line they start on.
    """
    return named_rows(_records(place, delimiter), place)


def _records(place: Place, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    # the module's own limit (128 KiB a field) would refuse long documents
    csv.field_size_limit(max(csv.field_size_limit(), lines.LONGEST))
    feed = _Feed(place)
    records = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        line = feed.start_record()
        try:
            fields = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            message = str(error)
            if message.startswith(("unexpected end", "field larger")):
                problem = "a quoted field is opened and never closed"
            else:
                problem = f"broken quoting ({message})"
            where = f"{place.shown} line {line}"
            place.refuse(
                where,
                InputError(
                    f"{where}: {problem}.",
                    fix='Put quotes around the whole field, and write a quote inside it twice: "".',
                ),
            )
            continue
        if fields:
            yield line, fields


class _Feed:
    """The lines of a file for the csv module, which counts a lone \\r as a line's end."""

    def __init__(self, place: Place) -> None:
        self._lines = lines.text_lines(place)
        self._pieces: list[str] = []
        self._number = self._extra = self._size = 0

    def start_record(self) -> int:
        """Note that a record begins; the number of its first line."""
        self._size = 0
        return self._number + self._extra + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._pieces:
            self._number, line = next(self._lines)
            if "\r" not in line[:-2]:
                self._pieces = [line]
            else:
                self._pieces = _universal(line)[::-1]
                self._extra += len(self._pieces) - 1
        piece = self._pieces.pop()
        self._size += len(piece)
        if self._size > lines.LONGEST:
            raise csv.Error("field larger than a record may be")
        return piece


def _universal(line: str) -> list[str]:
    """The line cut behind every \\r that no \\n follows."""
    return [part for part in _LONE_RETURN.split(line) if part]


def named_rows(table: Iterable[tuple[int, list[str]]], place: Place) -> Iterator[SourceRow]:
    """Rows from a header and records.

    Args:
        table: (line number, fields) of each record, the header first. A column without a name is
            called column_N by its place, as the index column that pandas writes.
        place: where they were read.

    Raises:
        InputError: no header or no rows, or two columns of one name. A record that has more or
            fewer fields than the header is refused with its row and line.
    """
    records = iter(table)
    first = next(records, None)
    if first is None:
        raise InputError(f"{place.shown} is empty.", fix="Put a header and rows into it.")
    header = [name.strip() or f"column_{n}" for n, name in enumerate(first[1], 1)]
    check_columns(header, place)
    number = 0
    for number, (line, fields) in enumerate(records, 1):
        source = f"{place.shown} row {number}"
        if len(fields) == len(header):
            yield SourceRow(dict(zip(header, fields, strict=True)), source)
            continue
        place.refuse(
            source,
            InputError(
                f"{source} (line {line}) has {len(fields)} "
                f"field{'s' * (len(fields) != 1)}, and the header has {len(header)}: "
                f"{', '.join(header)}.",
                fix="Quote a field that holds the delimiter, or add what is missing.",
            ),
        )
    if not number:
        raise InputError(
            f"{place.shown} has a header ({', '.join(header)}) and no rows.",
            fix="Put rows below the header.",
        )
