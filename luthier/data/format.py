"""Formats: what the rows of a file mean, told from the first of them and said aloud.

A reader (`readers/`) gives the rows of a file as they are. A format (`formats/`, one file each)
knows what such rows are (Alpaca, SQuAD, a chat log, an annotation export, ...), and turns them into
rows that tasks and templates can use. What comes out of formats of conversations has a column
`messages`: a list of {role, content}, the answer last.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.data.reading import Line, Place, SourceRow, find_reader, parse_json
from luthier.data.refused import Refused
from luthier.errors import InputError
from luthier.registry import Registry

#: How many rows, or lines, a format is told from.
SAMPLE_ROWS, SAMPLE_LINES = 20, 300
#: The share of them that must look like it.
_SHARE = 0.8

Values = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """The first rows of a source, for telling its format.

    Attributes:
        rows: at least one.
        place: where they were read.
    """

    rows: tuple[SourceRow, ...]
    place: Place

    @property
    def lines(self) -> list[str]:
        """The lines of a text file; none where it is a table."""
        return [row.values["text"] for row in self.rows if isinstance(row, Line)]

    def most(self, fits: Callable[[Values], bool]) -> bool:
        """Whether most rows fit."""
        fitting = sum(fits(row.values) for row in self.rows)
        return fitting >= _SHARE * len(self.rows)

    def has(self, *columns: str) -> bool:
        """Whether most rows have all of the columns."""
        return self.most(lambda values: all(name in values for name in columns))


@dataclass(frozen=True)
class Recipe:
    """How a row of a format becomes an example, where the task does not say: keys of its `data`."""

    input: str | None = None
    output: str | None = None
    messages: str | None = None
    text: str | None = None

    def keys(self) -> dict[str, str]:
        """Those that are given."""
        return {name: value for name, value in vars(self).items() if value is not None}


MESSAGES = Recipe(messages="messages")


@dataclass(frozen=True)
class Written:
    """A row in the shape of a format.

    Attributes:
        values: its columns.
        lost: what the shape cannot hold, as a few words that are counted: "turn weights".
    """

    values: Values
    lost: tuple[str, ...] = ()


#: Rows as a reader gave them to rows of the format; bad ones go to `Place.refuse`. The text is
#: what stood behind the format's name and a colon, else "".
Read = Callable[[Iterator[SourceRow], Place, str], Iterator[SourceRow]]


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: as in `data.format` and `--from`.
        title: for people: "Alpaca (instruction, input, output)".
        detect: whether the first rows of a source look like it.
        read: its rows.
        recipe: how they become examples; None where the task must say.
        of_lines: whether it is made of lines of text.
        keeps: whether the file's own rows are as good as those of the format, so that a change of
            the file's kind (csv, parquet, ...) can keep its columns.
        write: a row with `messages` in the shape of this format; None where it is only read. It
            raises `InputError` for a row that the shape cannot hold at all.
        option: what may stand behind the name and a colon, for people; "" for nothing.
        rank: formats with less are asked first.
    """

    name: str
    title: str
    detect: Callable[[Sample], bool]
    read: Read
    recipe: Callable[[Sample], Recipe | None] = field(default=lambda _: MESSAGES)
    of_lines: bool = False
    keeps: bool = False
    write: Callable[[Values], Written] | None = None
    option: str = ""
    rank: int = 50


FORMATS: Registry[Format] = Registry("format", "luthier.data.formats")


@dataclass(frozen=True)
class Detected:
    """What a source was found, or said, to be.

    Attributes:
        format: None where the rows look like no format: they are a plain table.
        sentence: says so.
        recipe: how its rows become examples, where the format knows.
        columns: of the first row as it was read.
    """

    format: Format | None
    sentence: str
    recipe: Recipe | None
    columns: tuple[str, ...]


def detect(
    source: str, base: Path, *, format: str | None = None, refused: Refused | None = None
) -> Detected:
    """What the first rows of a source look like, or `format` where that is given.

    Raises:
        InputError: an unknown format, or rows that cannot be read where there is no `refused`.
    """
    wanted = None if format in (None, "auto") else format
    if wanted:
        named(wanted)
    place, read = find_reader(source, base, format=wanted, refused=refused)
    try:
        sample, _ = _peek(place, read(place))
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}.") from None
    columns = tuple(sample.rows[0].values) if sample.rows else ()
    found = named(wanted)[0] if wanted else _found(sample)
    if found is None:
        shown = ", ".join(columns[:12]) + ", ..." * (len(columns) > 12)
        return Detected(None, f"{source}: read as a table ({shown}).", None, columns)
    how = ", as `format` says" if wanted else ""
    sentence = f"{source}: read as {found.title}{how}."
    return Detected(found, sentence, found.recipe(sample) if sample.rows else None, columns)


def told(values: Iterable[Values], place: Place) -> Format | None:
    """What rows are told to be, as those of a file are; None for a plain table.

    Args:
        values: rows of a table; the first are looked at.
        place: where they will be read.
    """
    rows = itertools.islice(values, SAMPLE_ROWS)
    sample = Sample(tuple(SourceRow(one, place.shown) for one in rows), place)
    return _found(sample) if sample.rows else None


def shape(place: Place, rows: Iterator[SourceRow], format: str) -> Iterator[SourceRow]:
    """Rows through a format: "auto", a name, or a name, a colon and an option."""
    if format != "auto":
        found, option = named(format)
        lines = next(rows, None)
        if lines is None:
            return
        rows = itertools.chain([lines], rows)
        if found.of_lines != isinstance(lines, Line):
            raise InputError(
                f"{place.shown}: {found.title} is made of "
                + ("lines of text, and this is a table." if found.of_lines else "rows, not lines."),
                fix="Name another format, or leave `format` out to have it told.",
            )
        yield from found.read(rows, place, option)
        return
    sample, rows = _peek(place, rows)
    detected = _found(sample) if sample.rows else None
    yield from rows if detected is None else detected.read(rows, place, "")


def named(format: str) -> tuple[Format, str]:
    """(the format, the option behind its name) of "slack" or "slack:Ada".

    Raises:
        InputError: no such format, with the nearest name; an option where none is taken.
    """
    name, _, option = format.partition(":")
    found = FORMATS.get(name.strip())
    if option.strip() and not found.option:
        raise InputError(f"The format {found.name} takes nothing behind a colon ({option!r}).")
    return found, option.strip()


def by_row(convert: Callable[[Values, str], Values | list[Values]]) -> Read:
    """A `Format.read` from what makes one row, or several, of one row's values and source."""

    def read(rows: Iterator[SourceRow], place: Place, option: str) -> Iterator[SourceRow]:
        for row in rows:
            try:
                made = convert(row.values, row.source)
            except InputError as error:
                place.refuse(row.source, error)
                continue
            if isinstance(made, dict):
                yield SourceRow(made, row.source)
            else:
                for number, values in enumerate(made, 1):
                    yield SourceRow(values, f"{row.source}.{number}")

    return read


def structured(value: Any) -> Any:
    """A list or object that a csv file holds as JSON text; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            parsed = parse_json(value)
        except ValueError:
            return value
        return parsed if isinstance(parsed, list | dict) else value
    return value


def _found(sample: Sample) -> Format | None:
    of_lines = bool(sample.lines)
    formats = sorted((one for _, one in FORMATS), key=lambda one: (one.rank, one.name))
    for one in formats:
        if one.of_lines == of_lines and one.detect(sample):
            return one
    return None


def _peek(place: Place, rows: Iterator[SourceRow]) -> tuple[Sample, Iterator[SourceRow]]:
    """The first rows, and all of them."""
    first = list(itertools.islice(rows, 1))
    most = SAMPLE_LINES if first and isinstance(first[0], Line) else SAMPLE_ROWS
    first += itertools.islice(rows, most - 1)
    return Sample(tuple(first), place), itertools.chain(first, rows)
