"""Training, validation and test: given, or cut from the training rows.

A cut is decided by hashes of the seed and the examples' ids, so it is the same on any machine and
does not depend on the order of the file. Rows that belong together (one `group`, the same input up
to case, space and punctuation, or a near-duplicate of it, see `near_duplicates`) are never cut
apart. For classification every split gets its share of each class. `data.split` says otherwise:
other sizes, another column to stratify by, by time, or the rows that were cut before (`frozen`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from luthier.data.column import Array, Column
from luthier.data.columns import Columns, columns_of
from luthier.data.cutting import Cut, Like, cut_all, cut_by_time
from luthier.data.examples import Example, Splits
from luthier.data.frozen import Frozen, hashed, read_frozen, row_hash, sorted_hashes, write_frozen
from luthier.data.names import At, Names
from luthier.data.numbered import Coded, coded
from luthier.data.shares import Places, pick, ranked
from luthier.data.stored import chosen_from
from luthier.data.wording import OF_TASK, Wording
from luthier.errors import InputError
from luthier.files import write_atomically
from luthier.progress import Reporter
from luthier.task_sections import Limit, Split

#: (largest, smallest) size of a split that is cut, in rows, unless a limit says else.
TEST_SIZE = (500, 20)
VALIDATION_SIZE = (100, 10)


def make_splits(
    train: Sequence[Example],
    validation: Sequence[Example] | None,
    test: Sequence[Example] | None,
    *,
    limit: Limit,
    seed: int,
    stratify: bool,
    split: Split | None = None,
    lock: Path | None = None,
    reporter: Reporter | None = None,
    kept: Path | None = None,
) -> tuple[Splits, tuple[str, ...]]:
    """Cut what is not given from `train`, then keep to the limits.

    Cut sizes, unless `split` gives them: the test 20 % of the rows, at most 500 (or its limit), at
    least 20 where there are enough; validation 20 % of what is left, at most 100 (or its limit), at
    least 10. `limit.train` counts rows after cutting: the other splits come from the rest of the
    file, and shrink, down to those least sizes, before training gets fewer rows than its limit.

    Training rows are shuffled by the seed; validation and test keep the order of their file.

    Args:
        train: the rows of the training source, in order.
        validation: the rows of its source, or None to cut it.
        test: likewise.
        limit: the most rows of each split.
        seed: what the cut and the shuffle depend on.
        stratify: keep the shares of the outputs (classes) alike.
        split: how splits are cut, `data.split` of the task.
        lock: the lock file, see `frozen`; it is read where it is there, and written where not.
        reporter: hears how far the search for near-duplicates is.
        kept: a file for which rows were chosen: read where it is there, which takes no time, and
            written where not. Whoever names it vouches that all else is the same.

    Returns:
        the splits, and notes on what was cut and left out.

    Raises:
        InputError: too few rows, or too few groups, to cut from; a column of `split` that rows
            lack; a lock file that belongs to other data.
    """
    given = {"train": train, "validation": validation, "test": test}
    found = _kept(kept) if kept else None
    if found is None:
        split = split or Split()
        found = _placed(given, limit, seed, stratify, split, lock, reporter or Reporter())
        if kept:
            _keep(kept, *found)
    places, notes = found
    parts = {}
    for name, rows in given.items():
        held = train if rows is None else rows
        parts[name] = chosen_from(held, places[name].tolist())
    return Splits(parts["train"], parts["validation"], parts["test"]), tuple(notes)


def _placed(
    given: dict[str, Sequence[Example] | None],
    limit: Limit,
    seed: int,
    stratify: bool,
    split: Split,
    lock: Path | None,
    reporter: Reporter,
) -> tuple[dict[str, Places], list[str]]:
    """(the rows of each split, as places in the training rows or in its own; notes)."""
    train = given["train"]
    assert train is not None
    cuts = [name for name in ("test", "validation") if given[name] is None]
    chosen: dict[str, Places] = {}
    notes: list[str] = []
    columns: Columns | None = None
    if cuts:
        columns = columns_of(train, split, stratify=stratify, reporter=reporter)
        cut, notes = _cut(train, columns, cuts, limit, seed, split, lock)
        chosen = {name: cut.places(name) for name in cut.names}
    for name, rows in given.items():
        held = train if name in chosen or rows is None else rows
        places = chosen.setdefault(name, np.arange(len(held)))
        most = getattr(limit, name)
        if name == "train" or (most is not None and len(places) > most):
            known = columns if held is train and columns is not None else None
            ids, classes = _named(held, places, known, stratify)
            if most is not None and len(places) > most:
                notes.append(f"{name}: {most} of {len(places)} rows are used (limit.{name}).")
                least = 2 if name == "train" else 0
                kept = pick(ids, classes, most, least, f"{seed}:limit:{name}")
                places, ids = places[kept], [ids[place] for place in kept.tolist()]
            if name == "train":
                places = places[ranked(ids, f"{seed}:order")]
        chosen[name] = places
    return chosen, notes


def _keep(path: Path, places: dict[str, Places], notes: list[str]) -> None:
    said = np.frombuffer(json.dumps(notes).encode(), np.uint8)

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, notes=said, **places)  # type: ignore[arg-type]

    write_atomically(path, write)


def _kept(path: Path) -> tuple[dict[str, Places], list[str]] | None:
    """What `_keep` wrote; None where it is not there, or damaged."""
    try:
        with np.load(path, allow_pickle=False) as held:
            places = {name: held[name] for name in ("train", "validation", "test")}
            return places, json.loads(held["notes"].tobytes())
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _named(
    held: Sequence[Example], places: Places, columns: Columns | None, stratify: bool
) -> tuple[Sequence[str], Coded | None]:
    """(ids, classes where they are kept in proportion) of some rows."""
    if columns is not None and (columns.classes is not None or not stratify):
        named = columns.classes
        kinds = None if named is None else Coded(named.names, named.codes.take(places))
        return At(columns.ids, places), kinds
    names, outputs = Names(), []
    for example in chosen_from(held, places.tolist()):
        names.add(example.id)
        outputs.append(example.output if stratify else "")
    return names, coded(outputs) if stratify else None


def _cut(
    train: Sequence[Example],
    columns: Columns,
    cuts: Sequence[str],
    limit: Limit,
    seed: int,
    split: Split,
    lock: Path | None,
) -> tuple[Cut, list[str]]:
    """(rows of each split that is cut and of training, notes)."""
    if lock is None:
        return cut_anew(columns, cuts, limit, seed, split)
    frozen = read_frozen(lock)
    if frozen is not None and set(cuts) <= set(frozen.rows):
        return cut_as_before(columns, cuts, frozen, hashed(map(row_hash, train)))
    if frozen is not None:
        missing = next(name for name in cuts if name not in frozen.rows)
        raise InputError(
            f"{lock} locks no {missing} rows: `data.{missing}` was a file when it was written.",
            fix=f"Give `data.{missing}` again, or remove the lock file to cut everything anew.",
        )
    cut, notes = cut_anew(columns, cuts, limit, seed, split)
    locked = {
        name: sorted_hashes(hashed(map(row_hash, chosen_from(train, cut.places(name).tolist()))))
        for name in cuts
    }
    write_frozen(lock, locked)
    return cut, [*notes, f"{lock.name}: written; these rows stay {' and '.join(cuts)}."]


def cut_anew(
    columns: Columns, cuts: Sequence[str], limit: Limit, seed: int, split: Split
) -> tuple[Cut, list[str]]:
    """(rows of each split that is cut and of training, notes) of rows that were not cut before.

    Args:
        columns: of the rows.
        cuts: which of test and validation.
        limit: the most rows of each.
        seed: what the cut depends on.
        split: sizes, and by what.

    Raises:
        InputError: too few rows, or too few that may be cut apart.
    """
    said = columns.said
    sizes = cut_sizes(len(columns), limit, "test" in cuts, "validation" in cuts, split, said)
    wanted = [(name, size) for name, size in sizes.items() if name in cuts]
    if columns.times is not None:
        return cut_by_time(columns, wanted, split.time or "")
    try:
        cut, notes = cut_all(columns, wanted, seed)
    except InputError:
        if split.near_duplicates is not None:
            raise
        cut, notes = cut_all(replace(columns, near=columns.equal), wanted, seed)
        return cut, [
            *notes,
            "near-duplicates: most rows are near-duplicates of others, so only equal inputs were "
            f"kept on one side ({said.both} asks for both).",
        ]
    kept = _distinct(columns.equal) - _distinct(columns.near)
    if kept:
        notes.append(
            f"near-duplicates: {kept} input{'s' * (kept != 1)} differ{'s' * (kept == 1)} from "
            "another in about one word in ten or less; none was cut apart from it."
        )
    return cut, notes


def _distinct(firsts: Column) -> int:
    """How many different sets rows are in, of the first row of each row's set."""
    return sum(
        int(np.count_nonzero(block == np.arange(start, start + len(block))))
        for start, block in firsts.blocks()
    )


def cut_as_before(
    columns: Columns, cuts: Sequence[str], frozen: Frozen, hashes: Iterable[Array]
) -> tuple[Cut, list[str]]:
    """The rows that the lock file names; the others are for training, but for what is too like
    them.

    Args:
        columns: of the rows.
        cuts: the splits that are cut.
        frozen: the lock file.
        hashes: `row_hash` of each row, in lots.

    Raises:
        InputError: these are other data, or nothing is left to train on.
    """
    cut = Cut([*cuts, "train"], len(columns))
    train = len(cuts)
    for start, block in cut.side.blocks():
        cut.side.put(np.arange(start, start + len(block)), train)
    locked = Column(np.int32), Column(np.int8)
    for rows, sides in frozen.find(cuts, hashes, columns.ids):
        locked[0].append(rows)
        locked[1].append(sides)
    for start, rows in locked[0].blocks():
        cut.side.put(rows, locked[1].read(start, start + len(rows)))
    notes = []
    for name in cuts:
        found = cut.count(name)
        gone = frozen.gone(name, found)
        notes.append(
            f"{name}: {found} rows, as {frozen.path.name} says"
            + (f"; {gone} of its rows are gone from the data." if gone else ".")
        )
    like = Like(columns)
    for name in cuts:
        like.add(cut.rows(name))
    left_out = 0
    for rows in cut.rows("train"):
        alike = rows[like.like(rows)]
        left_out += len(alike)
        cut.put(alike, None)
    if left_out:
        notes.append(
            f"{left_out} training row{'s' * (left_out != 1)} repeat{'s' * (left_out == 1)} a "
            "locked row's input or group, or nearly so, and were left out."
        )
    if not cut.count("train"):
        raise InputError(
            f"{frozen.path} leaves no row to train on.",
            fix="Add rows, or remove the lock file to cut anew.",
        )
    return cut, notes


def cut_sizes(
    rows: int,
    limit: Limit,
    cut_test: bool,
    cut_validation: bool,
    split: Split | None = None,
    said: Wording = OF_TASK,
) -> dict[str, int]:
    """How many of `rows` rows to cut for the test and for validation; 0 for one that is given.

    Raises:
        InputError: `split` asks for more rows than there are.
    """
    split = split or Split()
    test = test_least = validation = validation_least = 0
    if cut_test:
        most = limit.test or TEST_SIZE[0]
        test_least = min(TEST_SIZE[1], rows * 2 // 5, most)
        test = min(most, max(rows // 5, test_least))
        if split.test is not None:
            test = test_least = _asked(split.test, rows)
    if cut_validation:
        most = limit.validation or VALIDATION_SIZE[0]
        validation_least = min(VALIDATION_SIZE[1], (rows - test_least) * 2 // 5, most)
        validation = min(most, max((rows - test) // 5, validation_least))
        if split.validation is not None:
            validation = validation_least = _asked(split.validation, rows)
    if test + validation >= rows > 0:
        raise InputError(
            f"The {rows} {said.rows} are too few to cut {test} for the test and {validation} "
            "for validation from.",
            fix=f"Add rows, ask for fewer in {said.sizes}{said.or_give(['test'])}.",
        )
    spare = rows - (limit.train or rows)
    if 0 < spare < test + validation:
        least = test_least + validation_least
        room = max(spare, least) - least
        wish = test + validation - least
        if wish > 0:
            extra = room * (test - test_least) // wish
            test, validation = test_least + extra, validation_least + (room - extra)
    return {"test": test, "validation": validation}


def _asked(size: float, rows: int) -> int:
    """The rows that a share or a number asks for; at least one."""
    return max(1, round(size * rows)) if size < 1 else int(size)
