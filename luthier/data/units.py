"""Rows that stay together when splits are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from luthier.data.numbered import Coded, Codes


@dataclass(frozen=True)
class Units:
    """Sets of rows that stay together, numbered in the order of their first rows.

    Attributes:
        of: [rows] the unit of each row.
        first: [units] the first row of each.
        sizes: [units] how many rows each has.
    """

    of: Codes
    first: Codes
    sizes: Codes

    def __len__(self) -> int:
        return len(self.first)

    def shared(self) -> npt.NDArray[np.int64]:
        """The rows that are not alone in their unit, unit by unit."""
        rows = np.flatnonzero(self.sizes[self.of] > 1)
        ordered: npt.NDArray[np.int64] = rows[np.argsort(self.of[rows], kind="stable")]
        return ordered

    def least(self, ids: Sequence[str]) -> Codes:
        """[units] the row of each whose id comes first."""
        found = self.first.copy()
        rows = self.shared()
        unit, best = -1, ""
        for row, other in zip(rows.tolist(), self.of[rows].tolist(), strict=True):
            name = ids[row]
            if other != unit or name < best:
                found[other], unit, best = row, other, name
        return found

    def classes(self, classes: Coded) -> Codes:
        """[units] the class that most rows of each have; the first of several by its name."""
        found = classes.codes[self.first]
        rows = self.shared()
        if not len(rows):
            return found
        many = len(classes.names)
        pairs, counts = np.unique(
            self.of[rows].astype(np.int64) * many + classes.codes[rows], return_counts=True
        )
        unit, code = pairs // many, pairs % many
        order = np.lexsort((code, -counts, unit))
        new = np.diff(unit[order], prepend=-1) > 0
        found[unit[order][new]] = code[order][new]
        return found


def units_of(*keys: Codes) -> Units:
    """Rows that share a key, directly or through others.

    Args:
        keys: [rows] one array for each kind of key; below 0 is no key.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows = len(keys[0])
    label = _own_where_none(keys[0])
    for column in keys[1:]:
        held = np.flatnonzero(column >= 0)
        if not len(held):
            continue
        key = column[held]
        first = np.zeros(int(key.max()) + 1, np.int32)
        first[key[::-1]] = held[::-1]
        size = int(label.max()) + 1
        links = (label[held], label[first[key]])
        graph = coo_matrix((np.ones(len(held), bool), links), (size, size))
        _, component = connected_components(graph, directed=False)
        label = component[label]
    # numbered by first rows
    firsts = np.full(int(label.max(initial=-1)) + 1, rows, np.int32)
    firsts[label[::-1]] = np.arange(rows - 1, -1, -1, dtype=np.int32)
    order = np.argsort(firsts, kind="stable")
    order = order[firsts[order] < rows]
    number = np.zeros(len(firsts), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    of = number[label]
    sizes = np.bincount(of, minlength=len(order)).astype(np.int32)
    return Units(of, firsts[order], sizes)


def _own_where_none(keys: Codes) -> Codes:
    """The keys, with one of its own for every row that has none."""
    without = np.flatnonzero(keys < 0)
    if not len(without):
        return keys
    label = keys.copy()
    start = int(keys.max()) + 1
    label[without] = np.arange(start, start + len(without), dtype=np.int32)
    return label
