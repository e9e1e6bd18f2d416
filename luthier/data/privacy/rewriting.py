"""Files written anew with other texts: rows as JSON lines, .txt and .md as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from luthier.data.plain import plain
from luthier.data.reading import stream_rows
from luthier.errors import InputError
from luthier.files import write_atomically

#: Files that are one text and no rows.
TEXTS = (".txt", ".md")
#: Characters of text that are worked on together.
_BATCH = 1 << 18


@dataclass(frozen=True)
class Cell:
    """A text of a row: where it stands, and what it says."""

    row: str
    where: str
    text: str


def outputs(sources: Sequence[str], out: Path) -> list[Path]:
    """The new file of each source: `out` for one, files in the folder `out` for several.

    Raises:
        InputError: an ending that is not written, or two files of one name.
    """
    if len(sources) == 1:
        ending = _ending(sources[0])
        if out.suffix.lower() != ending:
            raise InputError(
                f"{sources[0]} is written as {ending[1:]}, and {out} does not end in {ending}.",
                fix=f"Name {out.with_suffix(ending)}.",
            )
        return [out]
    made = [out / f"{Path(source).stem}{_ending(source)}" for source in sources]
    if len(set(made)) < len(made):
        raise InputError(
            f"Two of the files would have the same name in {out}.", fix="Take them one by one."
        )
    return made


def check_new(paths: Sequence[Path]) -> None:
    """Raise `InputError` where one of the files is there already."""
    for path in paths:
        if path.exists():
            raise InputError(
                f"{path} is there already, and nothing is written over.",
                fix="Name another file, or remove it.",
            )


def _ending(source: str) -> str:
    suffix = Path(source).suffix.lower()
    return suffix if suffix in TEXTS else ".jsonl"


def rewrite(
    source: str, out: Path, change: Callable[[list[Cell]], list[str]], save: Callable[[], None]
) -> int:
    """Write a source with its texts changed.

    Args:
        source: as for `stream_rows`, or a file of `TEXTS`.
        out: the new file.
        change: new texts for some cells.
        save: called when all is written, before the new file is in its place.

    Returns:
        how many rows there were.

    Raises:
        InputError: the source cannot be read.
        RunError: the file cannot be written.
    """
    count = 0

    def write(part: Path) -> None:
        nonlocal count
        if _ending(source) in TEXTS:
            (text,) = change([Cell(source, "text", _text(source))])
            part.write_bytes(text.encode("utf-8"))
            count = 1
        else:
            with part.open("w", encoding="utf-8") as lines:
                for rows, cells in _batches(source):
                    _write_rows(lines, rows, change(cells))
                    count += len(rows)
        save()

    write_atomically(out, write)
    return count


def _write_rows(lines: IO[str], rows: list[dict[str, Any]], texts: list[str]) -> None:
    remaining = iter(texts)
    for row in rows:
        lines.write(json_line({name: _rebuilt(value, remaining) for name, value in row.items()}))


def each_cell(source: str, see: Callable[[list[Cell]], Any]) -> None:
    """Show all texts of a source, some at a time."""
    if _ending(source) in TEXTS:
        see([Cell(source, "text", _text(source))])
        return
    for _, cells in _batches(source):
        see(cells)


def _batches(source: str) -> Iterator[tuple[list[dict[str, Any]], list[Cell]]]:
    """Rows, and the texts in them in the order in which `_rebuilt` takes them."""
    rows: list[dict[str, Any]] = []
    cells: list[Cell] = []
    size = 0
    for row in stream_rows(source, Path()):
        values: dict[str, Any] = plain(row.values)
        rows.append(values)
        for name, value in values.items():
            for where, text in _texts(value, name):
                cells.append(Cell(row.source, where, text))
                size += len(text)
        if size >= _BATCH:
            yield rows, cells
            rows, cells, size = [], [], 0
    if rows:
        yield rows, cells


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{where}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{where}.{key}")


def _rebuilt(value: Any, texts: Iterator[str]) -> Any:
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, list):
        return [_rebuilt(item, texts) for item in value]
    if isinstance(value, dict):
        return {key: _rebuilt(item, texts) for key, item in value.items()}
    return value


def _text(source: str) -> str:
    try:
        return Path(source).expanduser().read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}.",
            fix=f"Convert it: iconv -t utf-8 {source}",
        ) from None


def json_line(value: Any) -> str:
    """One JSON line, in escapes only where half a character stands in it."""
    text = json.dumps(value, ensure_ascii=False)
    return (text if text.isprintable() else json.dumps(value, ensure_ascii=True)) + "\n"
