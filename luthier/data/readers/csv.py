"""Comma-separated values with a header, RFC 4180."""

from __future__ import annotations

from luthier.data.delimited import read_delimited
from luthier.data.reading import READERS, Place, SourceRow, read_text


@READERS.register(".csv")
def read_csv(place: Place) -> list[SourceRow]:
    """Read a csv file: a header, then one row a record; every value is text.

    Raises:
        InputError: no rows, a row with more or fewer fields than the header, two columns of one
            name, a quote that is not closed, an encoding other than UTF-8.
    """
    return read_delimited(read_text(place), place, ",")
