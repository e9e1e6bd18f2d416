"""Lines of several text files, one file after another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from luthier.data.reading import SourceRow


def file_of(row: SourceRow) -> str:
    """The file that a line was read from, as it is shown."""
    return row.source.rpartition(" line ")[0]


def each_file(rows: Iterator[SourceRow]) -> Iterator[tuple[str, Iterator[SourceRow]]]:
    """(file, its lines) for each: a sentence, a paragraph or a talk does not go on in the next."""
    yield from itertools.groupby(rows, key=file_of)
