"""`luthier check --fix`: what can be mended without a doubt, into a new file, with a log.

The source is only read. What is done is the same each time, and doing it again to the new file
changes nothing. What needs somebody's judgement is listed in the log and left as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from luthier.data.folding import fold
from luthier.data.lints.contradictions import ONE_ANSWER
from luthier.data.lints.preference_pairs import answer_text
from luthier.data.reading import MissingColumnError, SourceRow, stream_rows
from luthier.data.recipes import row_recipe
from luthier.data.repairs import mend_value
from luthier.errors import InputError
from luthier.files import write_atomically
from luthier.progress import Reporter
from luthier.task import Task
from luthier.task_sections import Data

#: What a change does to a row.
CHANGED, DROPPED, LISTED = "changed", "dropped", "listed"

#: (roles and texts of the turns before the answer, the answer) as they would be trained.
Said = tuple[tuple[tuple[str, str], ...], str]


@dataclass(frozen=True)
class Change:
    """One line of the log.

    Attributes:
        row: where the row was read.
        lint: whose finding it mends.
        action: "changed", "dropped", or "listed" for what is left as it is.
        where: the column and the place in it, where a text was changed.
        what: what was done, or why.
        before, after: the text; of a dropped row `before` is the row and `after` is None.
    """

    row: str
    lint: str
    action: str
    where: str | None
    what: str
    before: Any
    after: Any

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the log."""
        return {
            "row": self.row,
            "lint": self.lint,
            "action": self.action,
            "where": self.where,
            "what": self.what,
            "before": self.before,
            "after": self.after,
        }


@dataclass(frozen=True)
class Fixed:
    """What `fix_file` did.

    Attributes:
        path, log: the new file, and what was changed in it and why, a JSON object a line.
        read, written: rows.
        counts: (action, lint) to how many changes there were.
    """

    path: Path
    log: Path
    read: int
    written: int
    counts: dict[tuple[str, str], int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "file": str(self.path),
            "log": str(self.log),
            "rows_read": self.read,
            "rows_written": self.written,
            "changes": [
                {"action": action, "lint": lint, "count": count}
                for (action, lint), count in sorted(self.counts.items())
            ],
        }

    @property
    def changes(self) -> int:
        """How many texts were changed and rows dropped."""
        return sum(n for (action, _), n in self.counts.items() if action != LISTED)


def fix_file(task: Task, out: Path, reporter: Reporter | None = None) -> Fixed:
    """Write a task's training rows anew with the safe fixes, and the log of them beside it.

    Args:
        task: whose `data.train` is read.
        out: a new .jsonl file; the log is `out` with the ending .changes.jsonl.

    Raises:
        InputError: `out` is there already or ends otherwise, the rows cannot be read, or none
            would be left.
        RunError: the file cannot be written.
    """
    log = out.with_name(f"{out.stem}.changes.jsonl")
    if out.suffix.lower() != ".jsonl":
        raise InputError(
            f"--fix writes rows as JSON lines, and {out} does not end in .jsonl.",
            fix=f"Name {out.with_suffix('.jsonl')}; `luthier convert` makes other formats of it.",
        )
    for path in (out, log):
        if path.exists():
            raise InputError(
                f"{path} is there already, and nothing is written over.",
                fix="Name another file, or remove it.",
            )
    counts: Counter[tuple[str, str]] = Counter()
    rows = {"read": 0, "written": 0}

    def read() -> Iterator[SourceRow]:
        for row in stream_rows(task.data.train, task.folder, format=task.data.format):
            rows["read"] += 1
            yield row

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8") as kept:
            write_atomically(log, lambda other: write_both(kept, other))

    def write_both(kept: Any, part: Path) -> None:
        with part.open("w", encoding="utf-8") as logged:

            def note(change: Change) -> None:
                counts[change.action, change.lint] += 1
                logged.write(_line(change.to_dict()))

            for row in fix_rows(read(), task, note):
                kept.write(_line(row.values))
                rows["written"] += 1
        if not rows["written"]:
            raise InputError(
                f"{task.data.train}: none of {rows['read']:,} rows would be left.",
                fix="Check what `data.input` and `data.output` make of a row.",
            )

    with (reporter or Reporter()).work("fixing", 1) as bar:
        write_atomically(out, write)
        bar.advance()
    return Fixed(out, log, rows["read"], rows["written"], dict(counts))


def fix_rows(
    rows: Iterable[SourceRow], task: Task, note: Callable[[Change], None]
) -> Iterator[SourceRow]:
    """The rows that are kept, mended, one after another; `note` hears of every change.

    Memory: two hashes for each row.
    """
    said_of = _reader(task.data)
    seen: dict[bytes, str] = {}
    answers: dict[bytes, tuple[bytes, str]] = {}
    for row in rows:
        mended, changes = _mended(row)
        try:
            said = said_of(mended)
        except MissingColumnError as error:
            why = f"has no column {error.column!r}"
            note(Change(row.source, "blank", DROPPED, None, why, row.values, None))
            continue
        why = "" if said is None else _unusable(said, mended)
        if why:
            lint = "preference_pairs" if "chosen" in why else "blank"
            note(Change(row.source, lint, DROPPED, None, why, row.values, None))
            continue
        key = _digest([said, mended.values.get("rejected")] if said else mended.values)
        if key in seen:
            why = f"the same as {seen[key]}"
            note(Change(row.source, "duplicates", DROPPED, None, why, row.values, None))
            continue
        seen[key] = row.source
        for change in changes:  # those of a row that is dropped are of no use
            note(change)
        if said is not None and task.kind in ONE_ANSWER:
            asked = _digest([[role, fold(text)] for role, text in said[0]])
            answer = _digest(fold(said[1]))
            first, source = answers.setdefault(asked, (answer, row.source))
            if first != answer:
                why = f"another output than {source} for the same input"
                note(Change(row.source, "contradictions", LISTED, None, why, said[1], said[1]))
        yield mended


def _mended(row: SourceRow) -> tuple[SourceRow, list[Change]]:
    values, changes = {}, []
    for column, value in row.values.items():
        values[column], inside = mend_value(value)
        for place, what, before, after in inside:
            lint = "spaces" if what == "spaces" else "encoding"
            changes.append(
                Change(row.source, lint, CHANGED, f"{column}{place}", what, before, after)
            )
    return SourceRow(values, row.source), changes


def _reader(data: Data) -> Callable[[SourceRow], Said | None]:
    """What a row says. A template of the library says it differently from row to row, so there a
    row is judged by all its columns: None."""
    if data.template is not None or data.text is not None:
        return lambda row: None
    convert = row_recipe(data)

    def said(row: SourceRow) -> Said:
        messages, answer = convert(row)
        return tuple((m.role, m.content) for m in messages), answer.content.strip()

    return said


def _unusable(said: Said, row: SourceRow) -> str:
    """Why nothing can be learned from a row, or "" when something can."""
    turns, answer = said
    if not answer:
        return "blank output"
    if not turns or not turns[-1][1].strip():
        return "blank input"
    if "rejected" in row.values:
        chosen = answer_text(row.values.get("chosen", answer))
        if chosen is not None and chosen == answer_text(row.values["rejected"]):
            return "chosen and rejected are the same"
    return ""


def _digest(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return blake2b(text.encode(), digest_size=12).digest()


def _line(value: Any) -> str:
    """One JSON line; half characters in a column's name can be written as escapes only."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=True, default=str)
    return text + "\n"
