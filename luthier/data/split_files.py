"""One file of any size into files of splits or folds, without a task or a model.

The source is gone through twice: for what decides (a text, a group, a class or a time of each row),
and to write each row to its file. What is known of each row lies in temporary files (`column`), so
memory does not grow with the rows.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from luthier.data.column import Array, Column
from luthier.data.columns import Columns, columns_of
from luthier.data.cutting import Cut
from luthier.data.examples import Example, Message
from luthier.data.folds import assign_folds
from luthier.data.frozen import HASH, read_frozen, sorted_hashes, write_frozen
from luthier.data.names import HashNames
from luthier.data.plain import plain
from luthier.data.reading import stream_rows
from luthier.data.refused import Refused
from luthier.data.sizes import rows_of
from luthier.data.splits import cut_anew, cut_as_before
from luthier.data.wording import OF_FILE
from luthier.errors import InputError, did_you_mean
from luthier.files import folder_atomically, hash_of
from luthier.progress import Reporter, tracked, tracked_work
from luthier.task_sections import Limit, Split

#: Columns that are taken for the text that decides what is a near-duplicate, where none is named.
_TEXTS = ("input", "instruction", "prompt", "question", "text", "sentence", "content")


@dataclass(frozen=True)
class Wish:
    """How a file is split.

    Attributes:
        split: sizes, and by what.
        group: the column whose rows stay together.
        text: the column that is compared for repeats; else the one of a usual name, else all.
        folds: how many folds instead of splits.
        seed: what the cut depends on.
        format: of the source, as for `stream_rows`; None for its rows as they are in the file.
        cuts: which splits are cut, besides training.
        lock: a file that remembers which rows were cut, by hashes of their content, so that they
            stay cut when the data grow; written where it is not there.
    """

    split: Split
    group: str | None = None
    text: str | None = None
    folds: int | None = None
    seed: int = 0
    format: str | None = None
    cuts: tuple[str, ...] = ("test", "validation")
    lock: Path | None = None


@dataclass(frozen=True)
class SplitFiles:
    """What was written.

    Attributes:
        rows: of each file, by its path.
        notes: what was cut and left out.
        refused: rows of the source that could not be used.
    """

    rows: dict[str, int]
    notes: tuple[str, ...]
    refused: Refused


def split_file(
    source: str,
    base: Path,
    out: Path,
    wish: Wish,
    reporter: Reporter | None = None,
    refused: Refused | None = None,
) -> SplitFiles:
    """Cut a source into OUT/train.jsonl, validation.jsonl and test.jsonl, or OUT/fold-1/..., each
    fold with the rows to train on and those held out (test.jsonl).

    Args:
        source, base: as for `stream_rows`.
        out: a new folder.
        wish: how.
        reporter: hears how far it is.
        refused: takes the rows that cannot be used.

    Raises:
        InputError: the folder is there already, the source cannot be read, a column is missing, or
            there is too little to cut from.
        RunError: the files cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already.", fix="Name another folder, or remove it.")
    reporter = reporter or Reporter()
    refused = Refused() if refused is None else refused
    rows = _Rows(source, base, wish, refused)
    read = tracked_work(reporter, f"reading {source}", _about(source, base), rows)
    columns = columns_of(
        read, wish.split, stratify=False, hashed=True, reporter=reporter, said=OF_FILE
    )
    if wish.folds is not None:
        held_out = assign_folds(columns, wish.folds, wish.seed)
        notes = [f"{wish.folds} folds of {len(columns):,} rows; each row is held out once."]
        files = {fold: f"fold-{fold + 1}" for fold in range(wish.folds)}
    else:
        cut, notes = _cut(columns, wish)
        held_out, files = cut.side, dict(enumerate(cut.names))
    written: dict[str, int] = {}
    with (
        folder_atomically(out) as part,
        contextlib.ExitStack() as stack,
        reporter.work("writing", len(columns)) as bar,
    ):
        opened: dict[str, IO[str]] = {}

        def write(name: str, line: str) -> None:
            if name not in opened:
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                opened[name] = stack.enter_context((part / name).open("w", encoding="utf-8"))
            opened[name].write(line)
            written[name] = written.get(name, 0) + 1

        again = stream_rows(source, base, format=wish.format, refused=Refused())
        sides = iter(held_out)
        for row in tracked(again, bar):
            if (side := next(sides, None)) is None:
                raise InputError(f"{source} changed while it was read.", fix="Split it again.")
            line = json.dumps(plain(row.values), ensure_ascii=True) + "\n"
            if wish.folds is None:
                if side >= 0:
                    write(f"{files[side]}.jsonl", line)
                continue
            for fold, name in files.items():
                write(f"{name}/{'test' if side == fold else 'train'}.jsonl", line)
    return SplitFiles({str(out / name): n for name, n in written.items()}, tuple(notes), refused)


def _about(source: str, base: Path) -> int:
    try:
        return rows_of(source, base)
    except (OSError, ValueError, RuntimeError):  # reading it says what is wrong
        return 1


def _cut(columns: Columns, wish: Wish) -> tuple[Cut, list[str]]:
    """(rows of each split, notes)."""
    lock, names = wish.lock, columns.ids
    if lock is None:
        return cut_anew(columns, wish.cuts, Limit(), wish.seed, wish.split)
    assert isinstance(names, HashNames)
    if (frozen := read_frozen(lock)) is not None:
        if set(wish.cuts) != set(frozen.rows):
            raise InputError(
                f"{lock} locks the rows of {' and '.join(sorted(frozen.rows))}, and "
                f"{' and '.join(sorted(wish.cuts))} are asked for.",
                fix="Ask for the same splits, or name another lock file to cut anew.",
            )
        return cut_as_before(columns, wish.cuts, frozen, _hashes(names.keys))
    cut, notes = cut_anew(columns, wish.cuts, Limit(), wish.seed, wish.split)
    rows = {
        name: sorted_hashes(_hexed(names.keys.take(rows)) for rows in cut.rows(name))
        for name in wish.cuts
    }
    write_frozen(lock, rows)
    return cut, [*notes, f"{lock.name}: written; these rows stay {' and '.join(wish.cuts)}."]


def _hashes(keys: Column) -> Iterator[Array]:
    return (_hexed(block) for _, block in keys.blocks())


def _hexed(keys: Array) -> Array:
    """64-bit numbers as 16 hex digits."""
    return np.array([f"{key:016x}" for key in keys.tolist()], HASH)


class _Rows:
    """The rows of a source as examples of nothing but what deciding needs, read anew each time."""

    def __init__(self, source: str, base: Path, wish: Wish, refused: Refused) -> None:
        self._source, self._base, self._wish = source, base, wish
        self._refused: Refused | None = refused

    def __iter__(self) -> Iterator[Example]:
        wish = self._wish
        kept = [name for name in (wish.split.stratify, wish.split.time) if name is not None]
        text: str | None = wish.text
        # what cannot be used is counted the first time
        refused, self._refused = self._refused or Refused(), None
        # rows of JSON may lack a column that others have; none may lack what is cut by
        missing = {name for name in (text, wish.group) if name is not None}
        known: dict[str, None] = {}
        rows = stream_rows(self._source, self._base, format=wish.format, refused=refused)
        for number, row in enumerate(rows):
            values = row.values
            if number == 0 and text is None:
                text = next((name for name in _TEXTS if isinstance(values.get(name), str)), None)
            for name in kept:
                if name not in values:
                    raise InputError(
                        f"{row.source} has no column {name!r}.", fix=did_you_mean(name, values)
                    )
            if missing:
                missing -= values.keys()
                known |= dict.fromkeys(values)
            said = _text(values.get(text)) if text is not None else _all_text(values)
            group = values.get(wish.group) if wish.group else None
            yield Example(
                id=hash_of(plain(row.values))[:16],  # the order of the file does not matter
                messages=(Message("user", said),),
                output="",
                group=None if group is None or str(group).strip() == "" else str(group),
                source=row.source,
                fields={name: values[name] for name in kept if values.get(name) is not None},
            )
        for name in sorted(missing):
            raise InputError(
                f"No row of {self._source} has a column {name!r}.", fix=did_you_mean(name, known)
            )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _all_text(values: Mapping[str, Any]) -> str:
    """All texts of a row, one after another."""
    return "\n".join(value for value in values.values() if isinstance(value, str))
