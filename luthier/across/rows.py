"""Which runs may be compared, and on which rows.

Numbers may be compared where they mean the same (one scorer) and were measured on the same rows. A
row is the same in two tests where its id, what is asked and the reference are. Where two tests
have the same ids with the same references throughout, but ask in other words, they are the same
test read by different templates, and compared on all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.across.sides import SETTINGS, Side
from luthier.data.examples import Example

#: Tests smaller than this may have the same ids and references by chance.
_LEAST = 20

#: What makes two rows the same.
_Key = tuple[object, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that are compared with each other.

    Attributes:
        sides: two or more.
        rows: for each of them the places in its test of the rows that are compared, in the order
            of the first run's test.
        whole: whether that is the whole test of every one of them.
        reworded: whether the same rows are asked in other words.
    """

    sides: tuple[Side, ...]
    rows: tuple[tuple[int, ...], ...]
    whole: bool
    reworded: bool = False

    @property
    def n(self) -> int:
        """How many rows are compared."""
        return len(self.rows[0])

    def clusters(self) -> list[Example]:
        """The rows that are compared, as the first run that groups its rows has them."""
        grouped = (
            place
            for place, side in enumerate(self.sides)
            if any(side.test[row].group is not None for row in self.rows[place])
        )
        place = next(grouped, 0)
        return [self.sides[place].test[row] for row in self.rows[place]]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is compared with what.

    Attributes:
        groups: the widest first; a run may be in several.
        reasons: why other numbers are not compared, in sentences.
    """

    groups: tuple[Group, ...]
    reasons: tuple[str, ...]

    @property
    def alone(self) -> bool:
        """Whether nothing can be compared."""
        return not self.groups


def plan(sides: Sequence[Side]) -> Plan:
    """Decide what may be compared."""
    families: list[list[Side]] = []
    for side in sides:
        own = side.scorer()
        home = next((family for family in families if family[0].scorer() == own), None)
        if home is None:
            families.append([side])
        else:
            home.append(side)
    reasons = [
        _other_scorer(one[0], other[0])
        for index, one in enumerate(families)
        for other in families[index + 1 :]
    ]
    groups: list[Group] = []
    for family in families:
        found, why = _within(family)
        groups += found
        reasons += why
    groups.sort(key=lambda group: (-len(group.sides), -group.n))
    return Plan(tuple(groups), tuple(reasons))


def _other_scorer(one: Side, other: Side) -> str:
    first, second = one.scorer(), other.scorer()
    differing = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    if "metric" in differing:  # settings of another metric say nothing
        differing.remove(SETTINGS)
    said = "; ".join(
        f"{key}: {first.get(key, 'none')} in {one.name}, {second.get(key, 'none')} in {other.name}"
        for key in differing
    )
    return f"{one.name} and {other.name} are scored differently ({said}): not compared."


def _within(family: Sequence[Side]) -> tuple[list[Group], list[str]]:
    """The groups among runs with one scorer, and why some of them are not compared."""
    if len(family) < 2:
        return [], []
    blocks: list[list[Side]] = []
    for side in family:
        home = next((block for block in blocks if _same_test(block[0], side)), None)
        if home is None:
            blocks.append([side])
        else:
            home.append(side)
    groups = [_whole(block) for block in blocks if len(block) > 1]
    if len(blocks) == 1:
        return groups, []
    if everything := _overlap(family):
        return [*groups, everything], []
    reasons = []
    for index, one in enumerate(blocks):
        for other in blocks[index + 1 :]:
            if found := _overlap([*one, *other]):
                groups.append(found)
            else:
                reasons.append(
                    f"The tests of {one[0].name} and {other[0].name} have no row in common "
                    f"({len(one[0].test):,} and {len(other[0].test):,} rows): their numbers "
                    "cannot be compared."
                )
    return groups, reasons


def _keys(side: Side) -> list[_Key]:
    return [(e.id, e.messages, e.output) for e in side.test]


def _labelled(side: Side) -> dict[str, str]:
    return {example.id: example.output for example in side.test}


def _same_test(one: Side, other: Side) -> bool:
    return len(one.test) == len(other.test) and (
        set(_keys(one)) == set(_keys(other)) or _reworded(one, other)
    )


def _reworded(one: Side, other: Side) -> bool:
    """Whether ids and references are the same throughout; of references that are all alike that
    says nothing."""
    first, second = _labelled(one), _labelled(other)
    return (
        first == second
        and len(first) == len(one.test) >= _LEAST
        and len(set(first.values())) > 1
        and set(_keys(one)) != set(_keys(other))
    )


def _whole(block: Sequence[Side]) -> Group:
    """All rows of tests that are the same; their order may differ."""
    places = [{example.id: row for row, example in enumerate(side.test)} for side in block]
    order = [example.id for example in block[0].test]
    return Group(
        tuple(block),
        tuple(tuple(place[key] for key in order) for place in places),
        whole=True,
        reworded=any(_reworded(block[0], side) for side in block[1:]),
    )


def _overlap(sides: Sequence[Side]) -> Group | None:
    """The rows that all tests have; None where there are none."""
    places: list[dict[_Key, int]] = [
        {key: row for row, key in enumerate(_keys(side))} for side in sides
    ]
    common = [key for key in _keys(sides[0]) if all(key in place for place in places)]
    if not common:
        return None
    return Group(
        tuple(sides),
        tuple(tuple(place[key] for key in common) for place in places),
        whole=False,
    )
