"""Text files whose lines are no table: CoNLL columns, chat logs, plain text."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.lines import text_lines
from luthier.data.reading import READERS, Line, Place, SourceRow


@READERS.register(".txt")
@READERS.register(".log")
@READERS.register(".conll")
@READERS.register(".iob")
@READERS.register(".iob2")
@READERS.register(".bio")
def read_lines(place: Place) -> Iterator[SourceRow]:
    """Read a text file: a `Line` for every line, blank ones too; a format makes rows of them.

    Raises:
        InputError: empty or UTF-16. A line that is not UTF-8 or too long is refused.
    """
    for number, line in text_lines(place):
        text = line.removesuffix("\n").removesuffix("\r")
        yield Line({"text": text}, f"{place.shown} line {number}")
