"""Tab-separated values with a header."""

from __future__ import annotations

from luthier.data.delimited import named_rows, read_delimited
from luthier.data.reading import READERS, Place, SourceRow, read_text


def _is_quoted(field: str) -> bool:
    """Whether a field is quoted as in csv: quotes around it, and those inside doubled."""
    inner = field[1:-1]
    return len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")


@READERS.register(".tsv")
def read_tsv(place: Place) -> list[SourceRow]:
    """Read a tsv file: a header, then one row a line; every value is text.

    Some programs quote tsv fields as in csv, others take quotes as text. Quotes are read as in
    csv when every field that holds one is quoted properly, or when the rows only come out even
    that way; otherwise they are text.

    Raises:
        InputError: as for csv.
    """
    text = read_text(place)
    lines = text.replace("\r\n", "\n").split("\n")
    table = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line]
    width = len(table[0][1])
    if all(len(fields) == width for _, fields in table):
        with_quotes = [field for _, fields in table for field in fields if '"' in field]
        if with_quotes and all(map(_is_quoted, with_quotes)):
            table = [
                (n, [f[1:-1].replace('""', '"') if '"' in f else f for f in fields])
                for n, fields in table
            ]
        return named_rows(table, place)
    if '"' in text:
        return read_delimited(text, place, "\t")
    return named_rows(table, place)
