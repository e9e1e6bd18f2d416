"""Plain text, for continued pre-training: a row a paragraph, a line, or a whole file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from luthier.data import lines as caps
from luthier.data.format import FORMATS, SAMPLE_LINES, Format, Recipe, Sample
from luthier.data.line_files import each_file
from luthier.data.reading import Place, SourceRow
from luthier.errors import InputError, did_you_mean

_UNITS = ("paragraphs", "lines", "documents")


def _detect(sample: Sample) -> bool:
    return True


def _read(rows: Iterator[SourceRow], place: Place, option: str) -> Iterator[SourceRow]:
    if option and option not in _UNITS:
        raise InputError(
            f"The format text has no unit {option!r}; there are {', '.join(_UNITS)}.",
            fix=did_you_mean(option, _UNITS),
        )
    for name, lines in each_file(rows):
        first = list(itertools.islice(lines, SAMPLE_LINES))
        parted = any(not row.values["text"].strip() for row in first)
        unit = option or ("paragraphs" if parted else "lines")
        together = itertools.chain(first, lines)
        if unit == "lines":
            yield from (row for row in together if row.values["text"].strip())
        else:
            yield from _pieces(together, name, place, whole=unit == "documents")


def _pieces(rows: Iterator[SourceRow], name: str, place: Place, whole: bool) -> Iterator[SourceRow]:
    """Paragraphs, or the whole of a file; what is too long is refused."""
    held: list[str] = []
    size, source = 0, ""
    for row in rows:
        line = row.values["text"]
        if line.strip() or (whole and held):
            source = source or (name if whole else row.source)
            size += len(line) + 1
            if size <= caps.LONGEST:
                held.append(line)
        elif size:
            yield from _piece(held, size, source, place)
            held, size, source = [], 0, ""
    if size:
        yield from _piece(held, size, source, place)


def _piece(held: list[str], size: int, source: str, place: Place) -> Iterator[SourceRow]:
    if size > caps.LONGEST:
        problem = f"{source}: a text is longer than {caps.shown_size(caps.LONGEST)}."
        place.refuse(source, InputError(problem, fix="Part it by blank lines."))
        return
    yield SourceRow({"text": "\n".join(held).rstrip()}, source)


def _recipe(_: Sample) -> Recipe | None:
    return Recipe(text="{{ text }}")


FORMATS.register("text")(
    Format(
        name="text",
        title="plain text (a row a paragraph; a line where no blank line parts them)",
        detect=_detect,
        read=_read,
        recipe=_recipe,
        of_lines=True,
        option="what a row is: paragraphs, lines or documents",
        rank=100,
    )
)
