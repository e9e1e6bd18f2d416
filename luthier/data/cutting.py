"""Choosing which of the rows that stay together go to which split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from luthier.data.columns import Columns
from luthier.data.numbered import Coded, Codes
from luthier.data.shares import Places, allocate, pick, ranked_at
from luthier.data.stratify import LabelSets, distribute
from luthier.data.units import Units, units_of
from luthier.errors import InputError

#: Fewest rows that a test, or a validation split alone, is cut from.
FEWEST_FOR_TEST = 10
FEWEST_FOR_VALIDATION = 5
_AT_ONCE = 4096


def cut_all(
    pool: Columns, wanted: Sequence[tuple[str, int]], seed: int
) -> tuple[dict[str, Places], list[str]]:
    """(the rows of each split and of "train", ascending; notes) of cutting each (name, size).

    Raises:
        InputError: too few rows, or too few that may be cut apart.
    """
    said = pool.said
    grouped = bool((pool.groups >= 0).any())
    together = units_of(pool.near, pool.groups)
    groups = units_of(pool.groups) if grouped else together
    _check_enough(pool, groups, [name for name, _ in wanted])
    chosen: dict[str, Places] = {name: np.zeros(0, np.int64) for name, _ in wanted}
    dropped = 0
    if len(together) > len(wanted):
        chosen = _cut_units(pool, together, wanted, seed)
    if grouped and any(2 * len(chosen[name]) < size for name, size in wanted):
        # Frequent inputs chain most groups together: cut groups, and repeats leave training.
        del together
        chosen = _cut_units(pool, groups, wanted, seed)
        seen = np.zeros(int(pool.near.max()) + 1, bool)
        for name in ("test", "validation", "train"):
            if name in chosen:
                here = chosen[name][~seen[pool.near[chosen[name]]]]
                dropped += len(chosen[name]) - len(here)
                seen[pool.near[here]] = True
                chosen[name] = here
        if dropped > len(chosen["train"]):
            raise InputError(
                f"{dropped} of {len(pool)} {said.rows} repeat an input from another group, "
                "so no cut can keep both the groups and the repeats on one side.",
                fix=f"Remove the repeats, name another column as {said.group}"
                f"{said.or_give([name for name, _ in wanted])}.",
            )
    notes = []
    for name, size in wanted:
        rows = chosen[name]
        got = len(rows)
        if 4 * got < size:
            raise InputError(
                f"Only {got} of {len(pool)} {said.rows} could be cut for {name} ({size} are "
                "wanted): most rows share a group or an input, and those are not cut apart.",
                fix=f"Name another column as {said.group}{said.or_give([name])}.",
            )
        aside = f" ({size} are wanted; groups and repeats stay whole)" * (10 * got < 9 * size)
        if got > size:
            classes = pool.classes and replace(pool.classes, codes=pool.classes.codes[rows])
            ids = [pool.ids[row] for row in rows.tolist()]
            chosen[name] = rows[pick(ids, classes, size, 0, f"{seed}:{name}")]
            aside = f"; {got - size} more rows of their groups are left out"
        notes.append(f"{name}: {len(chosen[name])} of {len(pool)} {said.rows} were cut{aside}.")
    if dropped:
        notes.append(
            f"{dropped} rows repeat an input of the test or of validation from another "
            "group, and were left out."
        )
    return chosen, notes


def _cut_units(
    pool: Columns, units: Units, wanted: Sequence[tuple[str, int]], seed: int
) -> dict[str, Places]:
    """The rows of each wanted split, and of "train", ascending."""
    least = units.least(pool.ids)
    kinds = None
    if pool.several is None and pool.classes is not None:
        kinds = Coded(pool.classes.names, units.classes(pool.classes))
    left = np.arange(len(units), dtype=np.int32)
    side = np.full(len(units), len(wanted), np.int8)
    for number, (name, size) in enumerate(wanted):
        # ids are unique, so no two units are at one place of the order
        ranked = left[ranked_at(pool.ids, least[left], f"{seed}:{name}")]
        leave = len(wanted) - number
        if pool.several is not None:
            taken = _cut_labels(pool.several, units, ranked, size, leave)
        else:
            taken = _cut(kinds, units, ranked, size, leave)
        side[taken] = number
        left = np.flatnonzero(side == len(wanted)).astype(np.int32)
        del ranked
    del left, least
    side = side[units.of]
    names = [*(name for name, _ in wanted), "train"]
    return {name: np.flatnonzero(side == number) for number, name in enumerate(names)}


def _check_enough(pool: Columns, units: Units, cuts: Sequence[str]) -> None:
    fewest = FEWEST_FOR_TEST if "test" in cuts else FEWEST_FOR_VALIDATION
    what = " and ".join(cuts)
    fix = f"Add rows{pool.said.or_give(cuts)}."
    if len(pool) < fewest:
        raise InputError(
            f"{len(pool)} {pool.said.rows} are too few to cut {what} from (at least {fewest}).",
            fix=fix,
        )
    if len(units) < len(cuts) + 1:
        several = len(units) != 1
        raise InputError(
            f"The {len(pool)} {pool.said.rows} fall into {len(units)} set{'s' * several} that "
            f"share a group or an input and are not cut apart: too few for training, {what}.",
            fix=fix,
        )


def _cut(kinds: Coded | None, units: Units, ranked: Codes, size: int, leave: int) -> Codes:
    """Units of about `size` rows together, each class in proportion; never a class's last unit.

    At least `leave` units are left over for what is cut after this and for training.

    Args:
        kinds: [all units] the class of each; None for one class.
        units: all units.
        ranked: those that are left, in the order in which they are taken.
    """
    names = kinds.names if kinds else ("",)
    kind = kinds.codes[ranked] if kinds else np.zeros(len(ranked), np.int32)
    sizes = units.sizes[ranked]
    rows = np.bincount(kind, sizes, minlength=len(names)).astype(np.int64).tolist()
    shares = allocate(
        {name: count for name, count in zip(names, rows, strict=True) if count}, size, 1
    )
    quota = [shares.get(name, 0) for name in names]
    left = np.bincount(kind, minlength=len(names)).tolist()
    taken = np.zeros(len(ranked), bool)
    count = 0
    free = size
    for by_class in (True, False):  # first each class its share, then whatever fits
        for place, code, length in _open(taken, kind, sizes):
            room = min(free, quota[code]) if by_class else free
            if not free or len(ranked) - count <= leave:
                break
            if left[code] > 1 and length <= room:
                taken[place] = True
                count += 1
                free -= length
                quota[code] -= length
                left[code] -= 1
    if free * 2 > size:  # what is left are units larger than the split should be: one of those
        rest = np.flatnonzero(~taken)
        smallest = rest[np.argmin(sizes[rest])]
        if not count or (len(rest) > leave and 2 * sizes[smallest] <= sizes[rest].sum()):
            taken[smallest] = True
    chosen: Codes = ranked[taken]
    return chosen


def _open(
    taken: npt.NDArray[np.bool_], kind: Codes, sizes: Codes
) -> Iterator[tuple[int, int, int]]:
    """(place, class, rows) of each unit that is not taken when its turn comes."""
    for first in range(0, len(taken), _AT_ONCE):
        some = first + np.flatnonzero(~taken[first : first + _AT_ONCE])
        yield from zip(some.tolist(), kind[some].tolist(), sizes[some].tolist(), strict=True)


def _cut_labels(several: LabelSets, units: Units, ranked: Codes, size: int, leave: int) -> Codes:
    """As `_cut`, of rows that have several labels each."""
    rows = int(units.sizes[ranked].sum())
    share = size / max(rows, 1)
    kept = ranked[units.sizes[ranked] <= size][: max(0, len(ranked) - leave)]
    taken: Codes = kept[distribute(kept, units, several, [share, 1 - share]) == 0]
    return taken


def cut_by_time(
    pool: Columns, wanted: Sequence[tuple[str, int]], column: str
) -> tuple[dict[str, Places], list[str]]:
    """The newest rows are the test, the newest of the rest validation; see `cut_all`.

    Rows of one time are not cut apart: they go to the older side, unless that would take more than
    half of a split. Older rows that share a group, an input or a near-duplicate with a newer split
    are left out of training, since neither may they go along nor may they stay.

    Raises:
        InputError: too few rows, or too few different times.
    """
    assert pool.times is not None
    said = pool.said
    order = np.argsort(pool.times, kind="stable")
    times = pool.times[order]
    chosen: dict[str, Places] = {}
    notes = []
    stop = len(order)
    for name, size in wanted:
        start = stop - size
        edge = times[start] if start >= 0 else 0.0
        tied = 0 < start < stop and times[start - 1] == edge
        if tied:
            later = start + int(np.searchsorted(times[start:stop], edge, "right"))
            earlier = int(np.searchsorted(times, edge, "left"))
            start = later if 2 * (stop - later) >= size else earlier
        if start <= 0 or start >= stop:
            raise InputError(
                f"{name} cannot be cut by `{said.key.format('time')}: {column}`: of {stop} rows "
                "too many have one time.",
                fix=f"Name a column with finer times, or ask for another size in {said.sizes}.",
            )
        chosen[name] = order[start:stop]
        aside = f"; {size} are wanted, and rows of one time stay together" if tied else ""
        notes.append(
            f"{name}: {stop - start} of {len(pool)} {said.rows} were cut, from "
            f"{_shown(times[start])} to {_shown(times[stop - 1])}{aside}."
        )
        stop = start
    chosen["train"] = order[:stop]
    seen = Like(pool)
    dropped = 0
    names = [*(name for name, _ in wanted), "train"]
    for name, older in pairwise(names):
        seen.add(chosen[name])
        kept = seen.unlike(chosen[older])
        dropped += len(chosen[older]) - len(kept)
        chosen[older] = kept
        if not len(kept):
            raise InputError(
                f"Every {older} row shares a group or an input with newer rows.",
                fix=f"Name another column as {said.group}, or do not cut by time.",
            )
    if dropped:
        notes.append(
            f"{dropped} older row{'s' * (dropped != 1)} repeat{'s' * (dropped == 1)} an input or a "
            "group of newer splits, or nearly so, and were left out."
        )
    return {name: np.sort(rows) for name, rows in chosen.items()}, notes


class Like:
    """Which rows share a group, an input or a near-duplicate with some."""

    def __init__(self, pool: Columns) -> None:
        self._pool = pool
        self._inputs = np.zeros(int(pool.near.max(initial=-1)) + 1, bool)
        self._groups = np.zeros(int(pool.groups.max(initial=-1)) + 2, bool)

    def add(self, rows: Places) -> None:
        """Some rows."""
        self._inputs[self._pool.near[rows]] = True
        self._groups[self._pool.groups[rows] + 1] = True
        self._groups[0] = False  # of rows that stand alone

    def unlike(self, rows: Places) -> Places:
        """Those of the rows that share nothing with what was added."""
        inputs, groups = self._pool.near[rows], self._pool.groups[rows] + 1
        return rows[~self._inputs[inputs] & ~self._groups[groups]]


def _shown(time: float) -> str:
    import datetime

    moment = datetime.datetime.fromtimestamp(time, datetime.UTC)
    return moment.strftime("%Y-%m-%d" if time % 86400 == 0 else "%Y-%m-%d %H:%M")
