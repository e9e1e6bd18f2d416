"""Shares of rows that have several labels each: iterative stratification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from luthier.data.numbered import Coded, Codes
from luthier.data.units import Units


@dataclass(frozen=True)
class LabelSets:
    """The labels of rows, of which each has any number.

    Attributes:
        names: the labels, in order.
        sets: the different sets of them, as places in `names`.
        of: [rows] the set of each row.
    """

    names: tuple[str, ...]
    sets: tuple[tuple[int, ...], ...]
    of: Codes


def one_each(classes: Coded) -> LabelSets:
    """Classes as sets of one label."""
    sets = tuple((place,) for place in range(len(classes.names)))
    return LabelSets(classes.names, sets, classes.codes)


def distribute(
    chosen: npt.NDArray[np.integer],
    units: Units,
    labels: LabelSets | None,
    shares: Sequence[float],
) -> npt.NDArray[np.int32]:
    """Give each unit to one of several parts, every part its share of every label.

    The label with the fewest units left is dealt with first: each of its units goes to the part
    that lacks most of it, among those to the one that lacks most rows, then to the first
    (Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data", ECML PKDD,
    algorithm 1, with units of several rows).

    Args:
        chosen: [chosen] units, in the order they are dealt with; larger ones had better come first.
        units: which rows each has.
        labels: of each row; None where nothing is stratified.
        shares: of the rows, for each part, adding up to 1.

    Returns:
        [chosen] the part of each.
    """
    sizes = units.sizes[chosen]
    held = _Held(chosen, units, labels)
    rows = int(sizes.sum())
    lacking_rows = [share * rows for share in shares]
    lacking = [[share * total for share in shares] for total in held.totals]
    parts = np.full(len(chosen), -1, np.int32)
    every = range(len(shares))

    def give(place: int, part: int) -> None:
        parts[place] = part
        lacking_rows[part] -= int(sizes[place])
        for label, count in held.labels(place):
            lacking[label][part] -= count
            held.left[label] -= 1

    while held.left.any():
        # labels are in the order of their names, so the first of the least is taken
        label = int(np.argmin(np.where(held.left > 0, held.left, np.iinfo(np.int64).max)))
        lacks = lacking[label]
        for place in held.places(label):
            if parts[place] < 0:
                give(place, max(every, key=lambda p: (lacks[p], lacking_rows[p], -p)))
    for place in np.flatnonzero(parts < 0).tolist():
        give(place, max(every, key=lambda p: (lacking_rows[p], -p)))
    return parts


class _Held:
    """Which labels units have, and which units labels have, by places among the chosen units.

    Attributes:
        totals: rows of each label.
        left: [labels] units of each that are not given away.
    """

    def __init__(
        self, chosen: npt.NDArray[np.integer], units: Units, labels: LabelSets | None
    ) -> None:
        many = len(labels.names) if labels else 0
        pairs = np.zeros(0, np.int64)
        if labels is not None and many:
            place = np.full(len(units), -1, np.int64)
            place[chosen] = np.arange(len(chosen))
            place = place[units.of]
            inside = np.flatnonzero(place >= 0)
            sets = labels.of[inside]
            each = np.array([len(one) for one in labels.sets], np.int64)
            starts = np.cumsum(each) - each
            flat = np.array([label for one in labels.sets for label in one], np.int64)
            # the labels of each row, one after another
            counts = each[sets]
            within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            said = flat[np.repeat(starts[sets], counts) + within]
            pairs = np.repeat(place[inside], counts) * many + said
        pairs, times = np.unique(pairs, return_counts=True)
        owner = pairs // many if many else pairs
        self._label = (pairs % many if many else pairs).astype(np.int32)
        del pairs
        self._times = times.astype(np.int32)
        self._begins = np.searchsorted(owner, np.arange(len(chosen) + 1))
        self.left = np.bincount(self._label, minlength=many)
        self.totals: list[int] = (
            np.bincount(self._label, self._times, minlength=many).astype(np.int64).tolist()
        )
        order = np.argsort(self._label, kind="stable")
        self._owners = owner[order].astype(np.int32)
        self._ends = np.cumsum(self.left)

    def labels(self, place: int) -> list[tuple[int, int]]:
        """(label, rows that have it) of a unit."""
        some = slice(self._begins[place], self._begins[place + 1])
        return list(zip(self._label[some].tolist(), self._times[some].tolist(), strict=True))

    def places(self, label: int) -> list[int]:
        """The units that have a label, in the order they are dealt with."""
        stop = int(self._ends[label])
        start = int(self._ends[label - 1]) if label else 0
        owners: list[int] = self._owners[start:stop].tolist()
        return owners
