"""How the rows of one source become rows of a file: of another format, or of another kind.

What is looked at are the first rows; what is made is a function for the rest. `converting.py` does
it for a whole file, `mixing.py` for rows drawn from several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from luthier.data.format import FORMATS, Format, Recipe, Values, Written, detect, named, structured
from luthier.data.mapping import columns_missing, mapped
from luthier.data.reading import SourceRow, find_reader, stream_rows
from luthier.data.refused import Refused
from luthier.data.templates import compile_template
from luthier.data.turns import is_turns
from luthier.data.writing import FileKind, kinds
from luthier.errors import InputError, did_you_mean

#: Columns in which formats have turns.
_OF_TURNS = (
    *("messages", "conversations", "conversation"),
    *("prompt", "completion", "response", "chosen", "rejected"),
)


@dataclass(frozen=True)
class Wish:
    """What rows are converted to.

    Attributes:
        to: a format that is written ("alpaca"), or the kind of the file ("parquet"), which keeps
            the columns; "-" and "_" are the same.
        given: the format of the source, where it shall not be told from its rows.
        columns: role ("prompt", "completion", ...) to the column of the source that has it.
    """

    to: str
    given: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How the rows of one source become rows of the file.

    Attributes:
        rows: the rows as they are read, each time it is called; takes those that cannot be used.
        shape: makes a row of the file of one; raises `InputError` where that cannot be.
        read_as, written_as: as in `Converted`.
    """

    rows: Callable[[Refused], Iterator[SourceRow]]
    shape: Callable[[SourceRow], Written]
    read_as: str
    written_as: str

    def written(self, row: SourceRow, kind: FileKind) -> Written:
        """A row of a file of some kind.

        Raises:
            InputError: the row cannot be used; the message names it.
        """
        try:
            written = self.shape(row)
            _check_unicode(written.values, row)
            kind.check(written.values)
        except InputError as error:
            raise InputError(_placed(error.message, row.source), fix=error.fix) from None
        return written


def _placed(message: str, source: str) -> str:
    return message if source in message else f"{source}: {message}"


def target_of(to: str, kind: FileKind, out: Path) -> Format | None:
    """The format that rows are written in; None where they keep their columns.

    Raises:
        InputError: it is none that is written, or a kind that is not the file's.
    """
    name = to.strip().lower().replace("_", "-")
    if name == kind.name or name.removeprefix(".") == out.suffix[1:].lower():
        return None
    if name in kinds():
        raise InputError(
            f"{out} is a {kind.name} file by its ending, and `--to` says {to}.",
            fix=f"End its name in .{name}.",
        )
    written = {one: found for one, found in FORMATS if found.write is not None}
    if name in written:
        return written[name]
    if name in FORMATS:
        raise InputError(
            f"{FORMATS.get(name).title} is only read, not written.",
            fix=f"Written are: {', '.join([*written, *kinds()])}.",
        )
    raise InputError(f"Unknown format {to!r}.", fix=did_you_mean(name, [*written, *kinds()]))


def plan_of(source: str, base: Path, wish: Wish, target: Format | None) -> Plan:
    """How a source is converted; its first rows are looked at.

    Raises:
        InputError: it cannot be read, or has not what the target needs.
    """
    if wish.columns:
        return _mapped_plan(source, base, wish, target)
    found = detect(source, base, format=wish.given, refused=Refused())
    own = found.format is None or found.format.keeps
    title = target.title if target else "a table"

    def raw(refused: Refused) -> Iterator[SourceRow]:
        rows = stream_rows(source, base, refused=refused)
        return rows if found.format is None else map(_unpacked, rows)

    def formed(refused: Refused) -> Iterator[SourceRow]:
        return stream_rows(source, base, format=wish.given or "auto", refused=refused)

    if target is None:
        return Plan(raw if own else formed, _as_it_is, found.sentence, title)
    if found.format is None:
        raise InputError(
            f"{source} is a plain table, and {target.title} needs to know what its columns are.",
            fix="Say it: --map prompt=COLUMN --map completion=COLUMN, with columns from "
            f"{', '.join(found.columns[:30])}.",
        )
    if found.format.name == target.name and own:
        # its own columns say more than messages do: Alpaca's input stands by itself
        return Plan(raw, _checked(found.format, source, base), found.sentence, title)
    return Plan(formed, _writing(target, found.recipe), found.sentence, title)


def _mapped_plan(source: str, base: Path, wish: Wish, target: Format | None) -> Plan:
    rename, means = mapped(wish.columns)
    given = wish.given or means
    of_lines = named(given)[0].of_lines
    found = detect(source, base, format=given if of_lines else None, refused=Refused())
    if not of_lines and found.columns:
        columns_missing(wish.columns, found.columns, source)

    def renamed(refused: Refused) -> Iterator[SourceRow]:
        rows = stream_rows(source, base, format=given if of_lines else None, refused=refused)
        return map(rename, rows)

    def formed(refused: Refused) -> Iterator[SourceRow]:
        place, _ = find_reader(source, base, refused=refused)
        format, option = named(given)
        return format.read(renamed(refused), place, option)

    said = ", ".join(f"{role} from {column}" for role, column in wish.columns.items())
    sentence = f"{source}: {said}."
    if target is None or of_lines:
        shape = _as_it_is if target is None else _writing(target, None)
        return Plan(renamed, shape, sentence, target.title if target else "a table")
    return Plan(formed, _writing(target, None), sentence, target.title)


def _unpacked(row: SourceRow) -> SourceRow:
    """A row whose turns, which csv holds as JSON text, are lists again."""
    turns = {
        name: structured(row.values[name])
        for name in _OF_TURNS
        if isinstance(row.values.get(name), str) and is_turns(row.values[name])
    }
    return SourceRow({**row.values, **turns}, row.source) if turns else row


def _as_it_is(row: SourceRow) -> Written:
    return Written(row.values)


def _checked(format: Format, source: str, base: Path) -> Callable[[SourceRow], Written]:
    """A row of the format itself as it is, or `InputError` where it is none."""
    place, _ = find_reader(source, base)

    def check(row: SourceRow) -> Written:
        for _ in format.read(iter([row]), place, ""):
            pass
        return Written(row.values)

    return check


def _writing(target: Format, recipe: Recipe | None) -> Callable[[SourceRow], Written]:
    """What makes a row of the target of a row with `messages`, or of one that a recipe fits."""
    asked = answered = None
    if recipe is not None and recipe.input is not None and recipe.output is not None:
        asked = compile_template(recipe.input, "data.input")
        answered = compile_template(recipe.output, "data.output")

    def write(row: SourceRow) -> Written:
        values: Values = row.values
        if "messages" not in values:
            if asked is None or answered is None:
                raise InputError(
                    f"{row.source} holds no conversation, and nothing says what is asked and "
                    "answered.",
                    fix="Say which columns do: --map prompt=COLUMN --map completion=COLUMN.",
                )
            talk = [
                {"role": "user", "content": asked.render(row)},
                {"role": "assistant", "content": answered.render(row)},
            ]
            values = {"messages": talk, **values}
        assert target.write is not None
        return target.write(values)

    return write


def _check_unicode(values: Values, row: SourceRow) -> None:
    """Raise `InputError` for half of a surrogate pair anywhere in a row."""
    if not _encodes(values):
        raise InputError(
            f"{row.source} holds half of a character that takes two codes.",
            fix="The text was cut inside an emoji or a rare letter; mend or remove it.",
        )


def _encodes(value: object) -> bool:
    if isinstance(value, str):
        if value.isascii():
            return True
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    if isinstance(value, dict):
        return all(map(_encodes, value)) and all(map(_encodes, value.values()))
    return all(map(_encodes, value)) if isinstance(value, list) else True
