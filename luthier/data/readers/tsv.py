"""Tab-separated values with a header."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from luthier.data.delimited import delimited_rows, named_rows
from luthier.data.lines import text_lines
from luthier.data.reading import READERS, Place, SourceRow
from luthier.data.refused import Refused


@READERS.register(".tsv")
def read_tsv(place: Place) -> Iterator[SourceRow]:
    """Read a tsv file: a header, then one row a line; every value is text.

    Some programs quote tsv fields as in csv, others take quotes as text. Quotes are read as in
    csv when every field that holds one is quoted properly, or when the rows only come out even
    that way; otherwise they are text. The file is read twice to tell.

    Raises:
        InputError: as for csv.
    """
    even, quotes, proper = _look(replace(place, refused=Refused()))
    if not even and quotes:
        return delimited_rows(place, "\t")
    unquote = even and quotes and proper
    return named_rows(_records(place, unquote), place)


def _look(place: Place) -> tuple[bool, bool, bool]:
    """(whether all lines have as many fields, whether quotes occur, whether all are quoting)."""
    width, even, quotes, proper = 0, True, False, True
    for fields in (line.split("\t") for _, line in _lines(place)):
        width = width or len(fields)
        even = even and len(fields) == width
        with_quotes = [field for field in fields if '"' in field]
        quotes = quotes or bool(with_quotes)
        proper = proper and all(map(_is_quoted, with_quotes))
    return even, quotes, proper


def _lines(place: Place) -> Iterator[tuple[int, str]]:
    for number, line in text_lines(place):
        if plain := line.removesuffix("\n").removesuffix("\r"):
            yield number, plain


def _records(place: Place, unquote: bool) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(place):
        fields = line.split("\t")
        if unquote and '"' in line:
            fields = [f[1:-1].replace('""', '"') if '"' in f else f for f in fields]
        yield number, fields


def _is_quoted(field: str) -> bool:
    """Whether a field is quoted as in csv: quotes around it, and those inside doubled."""
    inner = field[1:-1]
    return len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
