"""What csv and tsv share: a header and records of as many fields."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from luthier.data.reading import Place, SourceRow, check_columns
from luthier.errors import InputError


def read_delimited(text: str, place: Place, delimiter: str) -> list[SourceRow]:
    """The rows of delimited text with RFC 4180 quoting; blank lines are left out.

    Raises:
        InputError: see `named_rows`; also broken quoting, with the line it starts on.
    """
    # the module's own limit (128 KiB a field) would refuse long documents
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    records = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    table: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for fields in records:
            if fields:
                table.append((line, fields))
            line = records.line_num + 1
    except csv.Error as error:
        problem = (
            "a quoted field is opened and never closed"
            if "unexpected end" in str(error)
            else f"broken quoting ({error})"
        )
        raise InputError(
            f"{place.shown} line {line}: {problem}.",
            fix='Put quotes around the whole field, and write a quote inside it twice: "".',
        ) from None
    return named_rows(table, place)


def named_rows(table: Iterable[tuple[int, list[str]]], place: Place) -> list[SourceRow]:
    """Rows from a header and records.

    Args:
        table: (line number, fields) of each record, the header first. A column without a name is
            called column_N by its place, as the index column that pandas writes.
        place: where they were read.

    Raises:
        InputError: no header or no rows, two columns of one name, or a record that has more or
            fewer fields than the header; the message names the row and the line.
    """
    records = list(table)
    if not records:
        raise InputError(f"{place.shown} is empty.", fix="Put a header and rows into it.")
    header = [name.strip() or f"column_{n}" for n, name in enumerate(records[0][1], 1)]
    check_columns(header, place)
    rows = []
    for number, (line, fields) in enumerate(records[1:], 1):
        if len(fields) != len(header):
            raise InputError(
                f"{place.shown} row {number} (line {line}) has {len(fields)} "
                f"field{'s' * (len(fields) != 1)}, and the header has {len(header)}: "
                f"{', '.join(header)}.",
                fix="Quote a field that holds the delimiter, or add what is missing.",
            )
        rows.append(
            SourceRow(dict(zip(header, fields, strict=True)), f"{place.shown} row {number}")
        )
    if not rows:
        raise InputError(
            f"{place.shown} has a header ({', '.join(header)}) and no rows.",
            fix="Put rows below the header.",
        )
    return rows
