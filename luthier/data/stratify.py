"""Shares of rows that have several labels each: iterative stratification."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.data.column import BLOCK, Array, Column, in_order, record, records
from luthier.data.units import Units, counted

_PAIR = record(np.uint64)
_OWNED = record(np.int32, owner=np.int32)
#: Units that are given to parts between two looks at what lies in files.
_AT_ONCE = 4096


@dataclass(frozen=True)
class Classes:
    """A class of each row.

    Attributes:
        names: of the classes, in order.
        codes: [rows] places in `names`, int32.
    """

    names: tuple[str, ...]
    codes: Column


@dataclass(frozen=True)
class LabelSets:
    """The labels of rows, of which each has any number.

    Attributes:
        names: the labels, in order.
        sets: the different sets of them, as places in `names`.
        of: [rows] the set of each row, int32.
    """

    names: tuple[str, ...]
    sets: tuple[tuple[int, ...], ...]
    of: Column


def one_each(classes: Classes) -> LabelSets:
    """Classes as sets of one label."""
    sets = tuple((place,) for place in range(len(classes.names)))
    return LabelSets(classes.names, sets, classes.codes)


def distribute(
    chosen: Column, units: Units, labels: LabelSets | None, shares: Sequence[float]
) -> Column:
    """Give each unit to one of several parts, every part its share of every label.

    The label with the fewest units left is dealt with first: each of its units goes to the part
    that lacks most of it, among those to the one that lacks most rows, then to the first
    (Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data", ECML PKDD,
    algorithm 1, with units of several rows).

    Args:
        chosen: [chosen] first rows of units, in the order they are dealt with; larger units had
            better come first.
        units: which rows each has.
        labels: of each row; None where nothing is stratified.
        shares: of the rows, for each part, adding up to 1.

    Returns:
        [chosen] the part of each, int32.
    """
    sizes = Column.of(np.int32, (units.sizes.take(block) for _, block in chosen.blocks()))
    rows = sum(int(block.sum(dtype=np.int64)) for _, block in sizes.blocks())
    held = _Held(chosen, units, labels)
    lacking_rows = [share * rows for share in shares]
    lacking = [[share * total for share in shares] for total in held.totals]
    parts = Column.full(len(chosen), -1, np.int32)
    every = range(len(shares))
    while held.left.any():
        # labels are in the order of their names, so the first of the least is taken
        label = int(np.argmin(np.where(held.left > 0, held.left, np.iinfo(np.int64).max)))
        lacks = lacking[label]
        for places in held.places(label):
            places = places[parts.take(places) < 0]
            given = []
            lengths = sizes.take(places).tolist()
            for length, said in zip(lengths, held.labels(places), strict=True):
                part = max(every, key=lambda p: (lacks[p], lacking_rows[p], -p))
                given.append(part)
                lacking_rows[part] -= length
                for one, count in said:
                    lacking[one][part] -= count
                    held.left[one] -= 1
            parts.put(places, np.array(given, np.int32))
    for start, block in parts.blocks():
        open_ = np.flatnonzero(block < 0)
        given = []
        for length in sizes.read(start, start + len(block))[open_].tolist():
            part = max(every, key=lambda p: (lacking_rows[p], -p))
            given.append(part)
            lacking_rows[part] -= length
        parts.put(start + open_, np.array(given, np.int32))
    return parts


class _Held:
    """Which labels units have, and which units labels have, by places among the chosen units.

    Attributes:
        totals: rows of each label.
        left: [labels] units of each that are not given away.
    """

    def __init__(self, chosen: Column, units: Units, labels: LabelSets | None) -> None:
        many = len(labels.names) if labels else 0
        self.left = np.zeros(many, np.int64)
        totals = np.zeros(many, np.int64)
        self._label, self._times = Column(np.int32), Column(np.int32)
        each = Column.full(len(chosen), 0, np.int64)
        self._owners = Column(np.int32)
        if labels is not None and many:
            for keys, times in counted(_pairs(chosen, units, labels)):
                owners = (keys // np.uint64(many)).astype(np.int64)
                codes = (keys % np.uint64(many)).astype(np.int32)
                self._label.append(codes)
                self._times.append(times)
                self.left += np.bincount(codes, minlength=many)
                totals += np.bincount(codes, times, minlength=many).astype(np.int64)
                who, counts = np.unique(owners, return_counts=True)
                each.put(who, each.take(who) + counts)
                self._owners.append(owners)
        # where the labels of each unit begin, and where the last end
        self._begins = Column(np.int64)
        done = 0
        for _, block in each.blocks():
            self._begins.append(done + np.cumsum(block) - block)
            done += int(block.sum())
        self._begins.append(np.array([done]))
        self.totals: list[int] = totals.tolist()
        by_label = (
            records(_OWNED, key=block, owner=self._owners.read(start, start + len(block)))
            for start, block in self._label.blocks()
        )
        self._owners = Column.of(np.int32, (lot["owner"] for lot in in_order(by_label)))
        self._ends = np.cumsum(self.left)

    def labels(self, places: Array) -> Iterator[list[tuple[int, int]]]:
        """(label, rows that have it) of each of some units."""
        begins, ends = self._begins.take(places), self._begins.take(places + 1)
        counts = ends - begins
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        which = np.repeat(begins, counts) + within
        label, times = self._label.take(which).tolist(), self._times.take(which).tolist()
        at = 0
        for count in counts.tolist():
            yield list(zip(label[at : at + count], times[at : at + count], strict=True))
            at += count

    def places(self, label: int) -> Iterator[Array]:
        """The units that have a label, in the order they are dealt with, in lots."""
        stop = int(self._ends[label])
        for start in range(int(self._ends[label - 1]) if label else 0, stop, _AT_ONCE):
            yield self._owners.read(start, min(stop, start + _AT_ONCE))


def _pairs(chosen: Column, units: Units, labels: LabelSets) -> Iterator[Array]:
    """A record for each label of each row of the chosen units: the unit's place, then the label."""
    many = len(labels.names)
    place = Column.full(len(units.of), -1, np.int64)
    for start, block in chosen.blocks():
        place.put(block, np.arange(start, start + len(block)))
    each = np.array([len(one) for one in labels.sets], np.int64)
    starts = np.cumsum(each) - each
    flat = np.array([label for one in labels.sets for label in one], np.int64)
    for start, of in units.of.blocks():
        for first in range(0, len(of), max(1, BLOCK // 8)):
            some = of[first : first + max(1, BLOCK // 8)]
            at = place.take(some)
            inside = np.flatnonzero(at >= 0)
            sets = labels.of.read(start + first, start + first + len(some))[inside]
            # the labels of each row, one after another
            counts = each[sets]
            within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            said = flat[np.repeat(starts[sets], counts) + within]
            key = np.repeat(at[inside], counts) * many + said
            yield records(_PAIR, key=key.astype(np.uint64))
