"""Rows of any source, as rows of another format or in a file of another kind.

One row is in memory at a time, and the file appears whole or not at all. What a format or a kind of
file cannot hold is counted and said, and so is every row that cannot be used.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from luthier.data.format import Format, told
from luthier.data.reading import Place, find_reader
from luthier.data.refused import Refused
from luthier.data.row_plans import Plan, Wish, plan_of, target_of
from luthier.data.spool import Spool, spool_beside
from luthier.data.writing import FileKind, kind_of
from luthier.errors import InputError
from luthier.files import hash_of, write_atomically
from luthier.progress import Reporter

_VERSION = 1


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        out: the file.
        rows: how many it has.
        read_as, written_as: a sentence on what the source was taken for; what was written.
        lost: what could not be kept, and in how many rows (or values).
        refused: rows that could not be used.
        note: what to know where the file will be told to be of another format than was asked for,
            by columns that the source had besides; else "".
    """

    out: Path
    rows: int
    read_as: str
    written_as: str
    lost: Counter[str]
    refused: Refused
    note: str = ""


def convert_file(
    source: str,
    base: Path,
    out: Path,
    wish: Wish,
    *,
    force: bool = False,
    refused_file: Path | None = None,
    reporter: Reporter | None = None,
) -> Converted:
    """Convert a source into one file.

    A call that was killed is gone on with by the same call, as long as the source is the same.

    Args:
        source, base: as for `stream_rows`.
        out: the file; its ending says its kind.
        wish: what the rows become.
        force: whether a file that is there already is replaced.
        refused_file: gets the place and reason of every row that could not be used, as JSON Lines.
        reporter: hears how far it is.

    Raises:
        InputError: a file that is there already; a format or kind that is not written; a source
            that cannot be read, or has not what the format needs; no row that can be used.
        RunError: the file cannot be written, or another process writes it.
    """
    reporter = reporter or Reporter()
    kind = kind_of(out)
    target = target_of(wish.to, kind, out)
    for path in (out, refused_file):
        if path is not None and path.exists() and not force:
            raise InputError(f"{path} is there already.", fix="Name another file, or use --force.")
    files = files_read(source, base, wish.given)
    if out.exists() and any(out.samefile(file) for file in files):
        raise InputError(f"{out} is the source itself.", fix="Name another file.")
    plan = plan_of(source, base, wish, target)
    stamps = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    key = hash_of([_VERSION, source, stamps, wish.to, wish.given, dict(wish.columns), kind.name])
    with spool_beside(out, key if files else None) as spool:
        try:
            _fill(spool, plan, kind, lines_of(files), reporter)
        finally:
            if refused_file is not None:
                spool.refused_file.touch()
                copied = spool.refused_file
                spool.flush()
                write_atomically(refused_file, lambda part: _copy(copied, part))
        if not spool.written:
            first = spool.refused.rows[0].reason if spool.refused.rows else ""
            raise InputError(
                f"{source}: none of its {spool.refused.count:,} rows can be written as "
                f"{plan.written_as}.",
                fix=f"The first: {first}",
            )
        note = _told(spool, out, target) if target else ""
        with reporter.work(f"writing {out.name}", 1) as bar:
            lost = Counter(spool.lost)
            write_atomically(out, lambda part: finish(spool, kind, part, lost))
            bar.advance()
        said = plan.read_as, plan.written_as
        return Converted(out, spool.written, *said, lost, spool.refused, note)


def _told(spool: Spool, out: Path, target: Format) -> str:
    """What to know where the rows will not be told to be what they were written as."""
    spool.flush()
    found = told(spool.read(), Place(str(out), out))
    if found is not None and found.name == target.name:
        return ""
    as_what = found.title if found else "a table"
    return (
        f"{out} will be read as {as_what}, by the columns that its rows have besides. To have it "
        f"read as {target.title}, say `--from {target.name}`, or `data.format: {target.name}` in a "
        "task."
    )


def _fill(spool: Spool, plan: Plan, kind: FileKind, about: int, reporter: Reporter) -> None:
    earlier = spool.taken
    if earlier:
        reporter.say(f"Going on behind row {earlier:,}, where an earlier call stopped.")
    else:
        spool.go_on()
    with reporter.work("converting", about) as bar:
        for number, row in enumerate(plan.rows(spool.refused), 1):
            bar.advance()
            if number <= earlier:
                if number == earlier:
                    spool.go_on()
                continue
            try:
                written = plan.written(row, kind)
            except InputError as error:
                spool.refused.add(row.source, error)
            else:
                spool.add(written.values)
                spool.lost.update(written.lost)
            spool.done_with(number)


def finish(spool: Spool, kind: FileKind, part: Path, lost: Counter[str]) -> None:
    """Make the file of the rows in the spool; what its kind cannot hold is counted."""
    if kind.as_lines:
        spool.flush()
        spool.rows_file.replace(part)
    else:
        kind.write(spool.read, part, lost)


def _copy(source: Path, part: Path) -> None:
    shutil.copyfile(source, part)


def files_read(source: str, base: Path, given: str | None) -> list[Path]:
    """The files of a source, sorted; none for a hub's and for parallel ones named together."""
    format = None if given in (None, "auto") else given
    path = find_reader(source, base, format=format)[0].path
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []


def lines_of(files: list[Path]) -> int:
    """About how many rows there are: lines of text, and a guess by size where there are none."""
    lines = 0
    for file in files:
        with file.open("rb") as content:
            while block := content.read(1 << 22):
                lines += block.count(b"\n")
    return max(lines, 1)
