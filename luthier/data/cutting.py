"""Choosing which of the rows that stay together go to which split."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from luthier.data.column import Array, Bools, Column, in_order, record, records
from luthier.data.columns import Columns
from luthier.data.shares import Places, allocate, in_rank
from luthier.data.stratify import LabelSets, distribute
from luthier.data.units import Units, units_of
from luthier.errors import InputError

#: Fewest rows that a test, or a validation split alone, is cut from.
FEWEST_FOR_TEST = 10
FEWEST_FOR_VALIDATION = 5
_AT_ONCE = 4096
_TIMED = record(np.float64, row=np.int32)


class Cut:
    """Which rows are in which split.

    Args:
        names: of the splits.
        rows: how many there are; at first none of them is in a split.

    Attributes:
        side: [rows] the place of each row's split in `names`; -1 for a row that is left out.
    """

    def __init__(self, names: Sequence[str], rows: int) -> None:
        self.names = tuple(names)
        self.side = Column.full(rows, -1, np.int8)

    def put(self, rows: Array, name: str | None) -> None:
        """Put some rows into a split; None to leave them out."""
        self.side.put(rows, -1 if name is None else self.names.index(name))

    def rows(self, name: str) -> Iterator[Places]:
        """The rows of a split, ascending, in lots; what is put meanwhile may or may not show."""
        number = self.names.index(name)
        for start, block in self.side.blocks():
            yield start + np.flatnonzero(block == number)

    def count(self, name: str) -> int:
        """How many rows a split has."""
        return sum(map(len, self.rows(name)))

    def places(self, name: str) -> Places:
        """The rows of a split, all in memory."""
        return np.concatenate([np.zeros(0, np.int64), *self.rows(name)])


def cut_all(pool: Columns, wanted: Sequence[tuple[str, int]], seed: int) -> tuple[Cut, list[str]]:
    """(the rows of each split and of "train"; notes) of cutting each (name, size).

    Raises:
        InputError: too few rows, or too few that may be cut apart.
    """
    said = pool.said
    grouped = any(bool((block >= 0).any()) for _, block in pool.groups.blocks())
    together = units_of(pool.near, pool.groups)
    groups = units_of(pool.groups) if grouped else together
    _check_enough(pool, groups, [name for name, _ in wanted])
    cut = Cut([*(name for name, _ in wanted), "train"], len(pool))
    dropped = 0
    if len(together) > len(wanted):
        _cut_units(pool, together, wanted, seed, cut)
    if grouped and any(2 * cut.count(name) < size for name, size in wanted):
        # Frequent inputs chain most groups together: cut groups, and repeats leave training.
        del together
        _cut_units(pool, groups, wanted, seed, cut)
        dropped = _drop_repeats(pool, cut)
        if dropped > cut.count("train"):
            raise InputError(
                f"{dropped} of {len(pool)} {said.rows} repeat an input from another group, "
                "so no cut can keep both the groups and the repeats on one side.",
                fix=f"Remove the repeats, name another column as {said.group}"
                f"{said.or_give([name for name, _ in wanted])}.",
            )
    notes = []
    for name, size in wanted:
        got = cut.count(name)
        if 4 * got < size:
            raise InputError(
                f"Only {got} of {len(pool)} {said.rows} could be cut for {name} ({size} are "
                "wanted): most rows share a group or an input, and those are not cut apart.",
                fix=f"Name another column as {said.group}{said.or_give([name])}.",
            )
        aside = f" ({size} are wanted; groups and repeats stay whole)" * (10 * got < 9 * size)
        if got > size:
            _keep(pool, cut, name, size, seed)
            aside = f"; {got - size} more rows of their groups are left out"
        notes.append(f"{name}: {min(got, size)} of {len(pool)} {said.rows} were cut{aside}.")
    if dropped:
        notes.append(
            f"{dropped} rows repeat an input of the test or of validation from another "
            "group, and were left out."
        )
    return cut, notes


def _drop_repeats(pool: Columns, cut: Cut) -> int:
    """Leave rows out whose input is in a split before theirs; how many."""
    seen = Column.full(len(pool), False, bool)
    dropped = 0
    for name in ("test", "validation", "train"):
        if name not in cut.names:
            continue
        for rows in cut.rows(name):
            again = seen.take(pool.near.take(rows))
            cut.put(rows[again], None)
            dropped += int(again.sum())
        for rows in cut.rows(name):
            seen.put(pool.near.take(rows), True)
    return dropped


def _keep(pool: Columns, cut: Cut, name: str, size: int, seed: int) -> None:
    """Leave rows out of a split that has too many, each class in proportion; as `shares.pick`."""
    classes = pool.classes
    free = np.array([size], np.int64)
    if classes is not None:
        many = len(classes.names)
        counts = np.zeros(many, np.int64)
        for rows in cut.rows(name):
            counts += np.bincount(classes.codes.take(rows), minlength=many)
        held = {one: n for one, n in zip(classes.names, counts.tolist(), strict=True) if n}
        share = allocate(held, size, 0)
        free = np.array([share.get(one, 0) for one in classes.names], np.int64)
    out = Column(np.int32)
    lots = ((rows, rows) for rows in cut.rows(name))
    for rows in in_rank(pool.ids, lots, f"{seed}:{name}"):
        codes = np.zeros(len(rows), np.int32) if classes is None else classes.codes.take(rows)
        for code in np.unique(codes).tolist():
            places = np.flatnonzero(codes == code)
            out.append(rows[places[free[code] :]])
            free[code] -= min(len(places), free[code])
    for _, rows in out.blocks():
        cut.put(rows, None)


def _cut_units(
    pool: Columns, units: Units, wanted: Sequence[tuple[str, int]], seed: int, cut: Cut
) -> None:
    """Put every row into a wanted split or into "train"."""
    least = units.least(pool.ids)
    kinds, many = None, 1
    if pool.several is None and pool.classes is not None:
        many = len(pool.classes.names)
        kinds = units.classes(pool.classes.codes, many)
    train = len(wanted)
    side = Column.full(len(pool), train, np.int8)
    for number, (name, size) in enumerate(wanted):
        # ids are unique, so no two units are at one place of the order
        open_ = (unit[side.take(unit) == train] for unit in units.firsts())
        lots = ((unit, least.take(unit)) for unit in open_)
        ranked = Column.of(np.int32, in_rank(pool.ids, lots, f"{seed}:{name}"))
        leave = len(wanted) - number
        if pool.several is not None:
            taken = _cut_labels(pool.several, units, ranked, size, leave)
        else:
            taken = _cut(kinds, many, units, ranked, size, leave)
        for start, block in taken.blocks():
            side.put(ranked.read(start, start + len(block))[block], number)
    for start, block in units.of.blocks():
        cut.side.put(np.arange(start, start + len(block)), side.take(block))


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


def _cut(
    kinds: Column | None, many: int, units: Units, ranked: Column, size: int, leave: int
) -> Column:
    """Units of about `size` rows together, each class in proportion; never a class's last unit.

    At least `leave` units are left over for what is cut after this and for training.

    Args:
        kinds: the class of each unit, at its first row; None for one class.
        many: how many classes there are, named by their numbers in order.
        units: all units.
        ranked: the first rows of those that are left, in the order in which they are taken.

    Returns:
        [ranked] which are taken.
    """
    kind = Column(np.int32)
    sizes = Column(np.int32)
    rows, left = np.zeros(many, np.int64), np.zeros(many, np.int64)
    for _, block in ranked.blocks():
        codes = np.zeros(len(block), np.int32) if kinds is None else kinds.take(block)
        length = units.sizes.take(block)
        kind.append(codes)
        sizes.append(length)
        rows += np.bincount(codes, length, minlength=many).astype(np.int64)
        left += np.bincount(codes, minlength=many)
    # numbers in the order of the classes' names, written so that texts are in that order too
    names = [f"{code:09}" for code in range(many)]
    held = {name: count for name, count in zip(names, rows.tolist(), strict=True) if count}
    shares = allocate(held, size, 1)
    quota = [shares.get(name, 0) for name in names]
    lasting = left.tolist()
    taken = Column.full(len(ranked), False, bool)
    count = 0
    free = size
    for by_class in (True, False):  # first each class its share, then whatever fits
        for start in range(0, len(ranked), _AT_ONCE):
            if not free or len(ranked) - count <= leave:
                break
            here = taken.read(start, start + _AT_ONCE).copy()
            open_ = np.flatnonzero(~here)
            codes = kind.read(start, start + _AT_ONCE)[open_].tolist()
            lengths = sizes.read(start, start + _AT_ONCE)[open_].tolist()
            for place, code, length in zip(open_.tolist(), codes, lengths, strict=True):
                room = min(free, quota[code]) if by_class else free
                if not free or len(ranked) - count <= leave:
                    break
                if lasting[code] > 1 and length <= room:
                    here[place] = True
                    count += 1
                    free -= length
                    quota[code] -= length
                    lasting[code] -= 1
            taken.put(np.arange(start, start + len(here)), here)
    if free * 2 > size:  # what is left are units larger than the split should be: one of those
        _take_smallest(taken, sizes, count, leave)
    return taken


def _take_smallest(taken: Column, sizes: Column, count: int, leave: int) -> None:
    smallest, least, total, rest = -1, 0, 0, 0
    for start, block in taken.blocks():
        open_ = np.flatnonzero(~block)
        if not len(open_):
            continue
        lengths = sizes.read(start, start + len(block))[open_]
        rest += len(open_)
        total += int(lengths.sum(dtype=np.int64))
        best = int(np.argmin(lengths))
        if smallest < 0 or int(lengths[best]) < least:
            smallest, least = start + int(open_[best]), int(lengths[best])
    if not count or (rest > leave and 2 * least <= total):
        taken.put(np.array([smallest]), True)


def _cut_labels(several: LabelSets, units: Units, ranked: Column, size: int, leave: int) -> Column:
    """As `_cut`, of rows that have several labels each."""
    kept = Column(np.int32)
    where = Column(np.int64)
    rows = 0
    most = max(0, len(ranked) - leave)
    for start, block in ranked.blocks():
        lengths = units.sizes.take(block)
        rows += int(lengths.sum(dtype=np.int64))
        fits = np.flatnonzero(lengths <= size)[: max(0, most - len(kept))]
        kept.append(block[fits])
        where.append(start + fits)
    share = size / max(rows, 1)
    parts = distribute(kept, units, several, [share, 1 - share])
    taken = Column.full(len(ranked), False, bool)
    for start, block in parts.blocks():
        taken.put(where.read(start, start + len(block)), block == 0)
    return taken


def cut_by_time(
    pool: Columns, wanted: Sequence[tuple[str, int]], column: str
) -> tuple[Cut, list[str]]:
    """The newest rows are the test, the newest of the rest validation; see `cut_all`.

    Rows of one time are not cut apart: they go to the older side, unless that would take more than
    half of a split. Older rows that share a group, an input or a near-duplicate with a newer split
    are left out of training, since neither may they go along nor may they stay.

    Raises:
        InputError: too few rows, or too few different times.
    """
    assert pool.times is not None
    said = pool.said
    order, times = Column(np.int32), Column(np.float64)
    timed = (
        records(_TIMED, key=block, row=np.arange(start, start + len(block)))
        for start, block in pool.times.blocks()
    )
    for lot in in_order(timed):
        order.append(lot["row"])
        times.append(lot["key"])
    cut = Cut([*(name for name, _ in wanted), "train"], len(pool))

    def put(name: str, start: int, stop: int) -> None:
        for first in range(start, stop, _AT_ONCE):
            cut.put(order.read(first, min(stop, first + _AT_ONCE)), name)

    notes = []
    stop = len(order)
    for name, size in wanted:
        start = stop - size
        edge = times[start] if start >= 0 else 0.0
        tied = 0 < start < stop and times[start - 1] == edge
        if tied:
            later = bisect_right(times, edge, start, stop)
            earlier = bisect_left(times, edge)
            start = later if 2 * (stop - later) >= size else earlier
        if start <= 0 or start >= stop:
            raise InputError(
                f"{name} cannot be cut by `{said.key.format('time')}: {column}`: of {stop} rows "
                "too many have one time.",
                fix=f"Name a column with finer times, or ask for another size in {said.sizes}.",
            )
        put(name, start, stop)
        aside = f"; {size} are wanted, and rows of one time stay together" if tied else ""
        notes.append(
            f"{name}: {stop - start} of {len(pool)} {said.rows} were cut, from "
            f"{_shown(times[start])} to {_shown(times[stop - 1])}{aside}."
        )
        stop = start
    put("train", 0, stop)
    seen = Like(pool)
    dropped = 0
    for name, older in pairwise(cut.names):
        seen.add(cut.rows(name))
        left = 0
        for rows in cut.rows(older):
            like = seen.like(rows)
            cut.put(rows[like], None)
            dropped += int(like.sum())
            left += len(rows) - int(like.sum())
        if not left:
            raise InputError(
                f"Every {older} row shares a group or an input with newer rows.",
                fix=f"Name another column as {said.group}, or do not cut by time.",
            )
    if dropped:
        notes.append(
            f"{dropped} older row{'s' * (dropped != 1)} repeat{'s' * (dropped == 1)} an input or a "
            "group of newer splits, or nearly so, and were left out."
        )
    return cut, notes


class Like:
    """Which rows share a group, an input or a near-duplicate with some."""

    def __init__(self, pool: Columns) -> None:
        self._pool = pool
        self._inputs = Column.full(len(pool), False, bool)
        self._groups = Column.full(len(pool), False, bool)

    def add(self, lots: Iterator[Array]) -> None:
        """Some rows."""
        for rows in lots:
            self._inputs.put(self._pool.near.take(rows), True)
            groups = self._pool.groups.take(rows)
            self._groups.put(groups[groups >= 0], True)

    def like(self, rows: Array) -> Bools:
        """Which of the rows share something with what was added."""
        found: Bools = self._inputs.take(self._pool.near.take(rows))
        groups = self._pool.groups.take(rows)
        grouped = np.flatnonzero(groups >= 0)
        found[grouped] |= self._groups.take(groups[grouped])
        return found


def _shown(time: float) -> str:
    import datetime

    moment = datetime.datetime.fromtimestamp(time, datetime.UTC)
    return moment.strftime("%Y-%m-%d" if time % 86400 == 0 else "%Y-%m-%d %H:%M")
