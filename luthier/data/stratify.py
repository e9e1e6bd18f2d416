"""Shares of rows that have several labels each: iterative stratification."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

#: Rows that stay together, as indices.
Unit = tuple[int, ...]


def distribute(
    units: Sequence[Unit],
    labels: Sequence[tuple[str, ...]] | None,
    shares: Sequence[float],
) -> list[list[Unit]]:
    """Give each unit to one of several parts, every part its share of every label.

    The label with the fewest units left is dealt with first: each of its units goes to the part
    that lacks most of it, among those to the one that lacks most rows, then to the first
    (Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data", ECML PKDD,
    algorithm 1, with units of several rows).

    Args:
        units: in the order they are dealt with; larger ones had better come first.
        labels: of each row; None where nothing is stratified.
        shares: of the rows, for each part, adding up to 1.

    Returns:
        the units of each part.
    """
    of_unit: list[Mapping[str, int]] = [
        Counter(label for row in unit for label in (labels[row] if labels else ()))
        for unit in units
    ]
    holders: dict[str, dict[int, None]] = defaultdict(dict)
    totals: Counter[str] = Counter()
    for place, counts in enumerate(of_unit):
        totals.update(counts)
        for label in counts:
            holders[label][place] = None
    rows = sum(map(len, units))
    lacking_rows = [share * rows for share in shares]
    lacking = {label: [share * count for share in shares] for label, count in totals.items()}
    parts: list[list[int]] = [[] for _ in shares]

    def give(place: int, part: int) -> None:
        parts[part].append(place)
        lacking_rows[part] -= len(units[place])
        for label, count in of_unit[place].items():
            lacking[label][part] -= count
            del holders[label][place]

    while any(holders.values()):
        label = min((name for name in holders if holders[name]), key=lambda n: (len(holders[n]), n))
        for place in list(holders[label]):
            part = max(range(len(shares)), key=lambda p: (lacking[label][p], lacking_rows[p], -p))
            give(place, part)
        del holders[label]
    given = {place for part in parts for place in part}
    for place in range(len(units)):
        if place not in given:
            give(place, max(range(len(shares)), key=lambda p: (lacking_rows[p], -p)))
    return [[units[place] for place in sorted(part)] for part in parts]
