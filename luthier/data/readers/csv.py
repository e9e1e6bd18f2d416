"""Comma-separated values with a header, RFC 4180."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.delimited import delimited_rows
from luthier.data.reading import READERS, Place, SourceRow


@READERS.register(".csv")
def read_csv(place: Place) -> Iterator[SourceRow]:
    """Read a csv file: a header, then one row a record; every value is text.

    Raises:
        InputError: no rows, two columns of one name, an encoding other than UTF-8. A row with more
            or fewer fields than the header and a quote that is not closed are refused.
    """
    return delimited_rows(place, ",")
