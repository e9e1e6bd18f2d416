"""Rows that stay together when splits are cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from luthier.data.stratify import Unit


def units_of(*keys: Sequence[object]) -> list[Unit]:
    """Rows that share a key, directly or through others (union-find), in the order of their first
    rows.

    Args:
        keys: one sequence for each kind of key, all of one length; None is no key.
    """
    parent = list(range(len(keys[0])))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for column in keys:
        first: dict[object, int] = {}
        for index, key in enumerate(column):
            if key is not None and (other := first.setdefault(key, index)) != index:
                parent[root(index)] = root(other)
    alone = [True] * len(parent)
    for index, other in enumerate(parent):
        if other != index:
            alone[index] = alone[root(index)] = False
    members: dict[int, list[int]] = defaultdict(list)
    for index, single in enumerate(alone):
        if not single:
            members[root(index)].append(index)
    units: list[Unit] = [(index,) for index, single in enumerate(alone) if single]
    units += [tuple(unit) for unit in members.values()]
    units.sort(key=lambda unit: unit[0])
    return units
