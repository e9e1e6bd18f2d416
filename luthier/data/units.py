"""Rows that stay together when splits are cut.

Sets of rows are known by their first rows. How they come together is decided some links at a time,
so memory does not grow with the rows (`column`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from luthier.data.column import BLOCK, Array, Column, equal_runs, in_order, record, records
from luthier.data.names import HashNames, Names

Indices = npt.NDArray[np.int64]

_BY_UNIT = record(np.int32, row=np.int32)
_BY_CLASS = record(np.uint64)
#: Links between sets that are made at a time.
_LINKS = 1 << 18
#: Places of a table in which what is surely no set that changes is looked up.
_TABLE = 1 << 20


@dataclass(frozen=True)
class Units:
    """Sets of rows that stay together.

    Attributes:
        of: [rows] the first row of each row's unit, int32.
        sizes: [rows] how many rows the unit has that begins with each; 0 for other rows.
        count: of units.
    """

    of: Column
    sizes: Column
    count: int

    def __len__(self) -> int:
        return self.count

    def firsts(self) -> Iterator[Array]:
        """The first rows of all units, ascending, in lots."""
        for start, block in self.sizes.blocks():
            yield start + np.flatnonzero(block)

    def _shared(self) -> Iterator[tuple[Array, Array]]:
        """(units, rows) of the rows that are not alone in their unit, in lots."""
        for start, block in self.of.blocks():
            places = np.flatnonzero(self.sizes.take(block) > 1)
            if len(places):
                yield block[places], start + places

    def least(self, ids: HashNames | Names) -> Column:
        """[rows] the row of each unit whose id comes first, at the unit's first row."""
        found = Column.of(np.int32, (block for _, block in self.of.blocks()))
        lots = (records(_BY_UNIT, key=unit, row=row) for unit, row in self._shared())
        last, best = -1, ""
        for lot in in_order(lots):
            units, rows = lot["key"], lot["row"]
            changed: dict[int, int] = {}
            for unit, row, name in zip(units.tolist(), rows.tolist(), ids.at(rows), strict=True):
                if unit != last or name < best:
                    last, best = unit, name
                    changed[unit] = row
            _put_all(found, changed)
        return found

    def classes(self, codes: Column, many: int) -> Column:
        """[rows] the class that most rows of each unit have, the first of several by its number,
        at the unit's first row.

        Args:
            codes: [rows] the class of each.
            many: how many classes there are.
        """
        found = Column.of(np.int32, (block for _, block in codes.blocks()))

        def both() -> Iterator[Array]:
            for units, rows in self._shared():
                code = codes.take(rows).astype(np.uint64)
                yield records(_BY_CLASS, key=units.astype(np.uint64) * np.uint64(many) + code)

        unit = most = -1
        best: dict[int, int] = {}
        for keys, counts in counted(both()):
            for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
                this, code = divmod(key, many)
                if this != unit:
                    unit, most = this, 0
                if count > most:  # codes ascend, so the first of several stays
                    most = count
                    best[unit] = code
            _put_all(found, best)
        return found


def _put_all(column: Column, values: dict[int, int]) -> None:
    column.put(np.array(list(values), np.int64), np.array(list(values.values()), np.int32))
    values.clear()


def counted(lots: Iterable[Array]) -> Iterator[tuple[Array, Array]]:
    """(keys, how many records have each), keys ascending, of records in any order; in lots."""
    last: Any = None
    held = 0
    for lot, new in equal_runs(in_order(lots)):
        begins = np.flatnonzero(new)
        held += int(begins[0]) if len(begins) else len(lot)
        if not len(begins):
            continue
        keys, sizes = lot["key"][begins], np.diff(begins, append=len(lot))
        if last is None:
            yield keys[:-1], sizes[:-1]
        else:
            yield np.append(last, keys[:-1]), np.append(held, sizes[:-1])
        last, held = keys[-1:], int(sizes[-1])
    if last is not None:
        yield last, np.array([held])


def units_of(near: Column, groups: Column | None = None) -> Units:
    """Rows that share a key, directly or through others.

    Args:
        near: [rows] the first row of each row's kind; -1 for a row that stands alone.
        groups: the same, of another kind.
    """
    of = own_labels(len(near))
    for start, block in near.blocks():
        held = np.flatnonzero(block >= 0)
        of.put(start + held, block[held])
    if groups is not None:
        _join_all(of, groups)
    sizes = Column.full(len(of), 0, np.int32)
    for _, block in of.blocks():
        unit, times = np.unique(block, return_counts=True)
        sizes.put(unit, sizes.take(unit) + times)
    count = sum(int(np.count_nonzero(block)) for _, block in sizes.blocks())
    return Units(of, sizes, count)


def _join_all(of: Column, groups: Column) -> None:
    left: list[Array] = []
    right: list[Array] = []
    for start, block in groups.blocks():
        rows = start + np.flatnonzero(block >= 0)
        firsts = block[rows - start]
        linked = rows != firsts
        left.append(rows[linked])
        right.append(firsts[linked])
        if sum(map(len, left)) > _LINKS:
            join(of, np.concatenate(left), np.concatenate(right))
            left, right = [], []
    if left:
        join(of, np.concatenate(left), np.concatenate(right))


def own_labels(size: int) -> Column:
    """Each thing by itself: [things] its own number."""
    starts = range(0, size, BLOCK)
    lots = (np.arange(start, min(size, start + BLOCK), dtype=np.int32) for start in starts)
    return Column.of(np.int32, lots)


def join(label: Column, left: Array, right: Array) -> None:
    """Make one of the sets that each pair's two are in.

    Args:
        label: [things] the first thing of the set that each is in; changed in place.
        left, right: [pairs] things.
    """
    a, b = label.take(left), label.take(right)
    apart = a != b
    if not apart.any():
        return
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    sets, places = np.unique(np.concatenate((a[apart], b[apart])), return_inverse=True)
    half = len(places) // 2
    links = (np.ones(half, bool), (places[:half], places[half:]))
    _, component = connected_components(coo_matrix(links, (len(sets), len(sets))), directed=False)
    # sets ascend, so the first of each component is its least
    _, first = np.unique(component, return_index=True)
    least = sets[first[component]]
    moved = sets != least
    sets, least = sets[moved], least[moved]
    table = np.zeros(_TABLE, bool)
    table[sets % _TABLE] = True
    for start, block in label.blocks():
        perhaps = np.flatnonzero(table[block % _TABLE])
        place = np.minimum(np.searchsorted(sets, block[perhaps]), len(sets) - 1)
        hit = sets[place] == block[perhaps]
        if hit.any():
            label.put(start + perhaps[hit], least[place[hit]])
