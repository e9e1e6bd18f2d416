"""Choosing which of the rows that stay together go to which split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from luthier.data.columns import Columns
from luthier.data.shares import allocate, pick, rank
from luthier.data.stratify import Unit, distribute
from luthier.data.units import units_of
from luthier.errors import InputError

#: Fewest rows that a test, or a validation split alone, is cut from.
FEWEST_FOR_TEST = 10
FEWEST_FOR_VALIDATION = 5


def cut_all(
    pool: Columns, wanted: Sequence[tuple[str, int]], seed: int
) -> tuple[dict[str, list[int]], list[str]]:
    """(the rows of each split and of "train", ascending; notes) of cutting each (name, size).

    Raises:
        InputError: too few rows, or too few that may be cut apart.
    """
    by_input = pool.near
    grouped = any(group is not None for group in pool.groups)
    together = units_of(by_input, pool.groups)
    groups = units_of(pool.groups) if grouped else together
    _check_enough(pool, groups if grouped else together, [name for name, _ in wanted])
    chosen: dict[str, list[int]] = {name: [] for name, _ in wanted}
    dropped: set[int] = set()
    if len(together) > len(wanted):
        chosen = _cut_units(pool, together, wanted, seed)
    if grouped and any(2 * len(chosen[name]) < size for name, size in wanted):
        # Frequent inputs chain most groups together: cut groups, and repeats leave training.
        chosen = _cut_units(pool, groups, wanted, seed)
        seen: set[int] = set()
        for name in ("test", "validation", "train"):
            here = [index for index in chosen.get(name, ()) if by_input[index] not in seen]
            dropped |= set(chosen.get(name, ())) - set(here)
            seen |= {by_input[index] for index in here}
            if name in chosen:
                chosen[name] = here
        if len(dropped) > len(chosen["train"]):
            raise InputError(
                f"{len(dropped)} of {len(pool)} training rows repeat an input from another group, "
                "so no cut can keep both the groups and the repeats on one side.",
                fix="Remove the repeats, name another column as `data.group`, or give "
                + f"{' and '.join(f'`data.{name}`' for name, _ in wanted)}.",
            )
    notes = []
    for name, size in wanted:
        got = len(chosen[name])
        if 4 * got < size:
            raise InputError(
                f"Only {got} of {len(pool)} training rows could be cut for {name} ({size} are "
                "wanted): most rows share a group or an input, and those are not cut apart.",
                fix=f"Give `data.{name}`, or name another column as `data.group`.",
            )
        aside = f" ({size} are wanted; groups and repeats stay whole)" * (10 * got < 9 * size)
        if got > size:
            rows = sorted(chosen[name])
            classes = [pool.classes[i] for i in rows] if pool.classes else None
            kept = pick([pool.ids[i] for i in rows], classes, size, 0, f"{seed}:{name}")
            chosen[name] = [rows[i] for i in kept]
            aside = f"; {got - size} more rows of their groups are left out"
        notes.append(f"{name}: {len(chosen[name])} of {len(pool)} training rows were cut{aside}.")
    if dropped:
        notes.append(
            f"{len(dropped)} rows repeat an input of the test or of validation from another "
            "group, and were left out."
        )
    return {name: sorted(rows) for name, rows in chosen.items()}, notes


def _cut_units(
    pool: Columns, units: Sequence[Unit], wanted: Sequence[tuple[str, int]], seed: int
) -> dict[str, list[int]]:
    """The rows of each wanted split, and of "train", as indices into the pool."""
    left = list(units)
    chosen = {}
    for cuts_to_come, (name, size) in zip(range(len(wanted), 0, -1), wanted, strict=True):
        salt = f"{seed}:{name}"
        if pool.several is not None:
            taken = _cut_labels(pool, left, size, cuts_to_come, salt)
        else:
            taken = _cut(pool, left, size, cuts_to_come, salt)
        left = [unit for unit in left if unit not in taken]
        chosen[name] = [index for unit in taken for index in unit]
    chosen["train"] = [index for unit in left for index in unit]
    return chosen


def _check_enough(pool: Columns, units: Sequence[Unit], cuts: Sequence[str]) -> None:
    fewest = FEWEST_FOR_TEST if "test" in cuts else FEWEST_FOR_VALIDATION
    what = " and ".join(cuts)
    fix = f"Add rows, or give {' and '.join(f'`data.{name}`' for name in cuts)}."
    if len(pool) < fewest:
        raise InputError(
            f"{len(pool)} training rows are too few to cut {what} from (at least {fewest}).",
            fix=fix,
        )
    if len(units) < len(cuts) + 1:
        several = len(units) != 1
        raise InputError(
            f"The {len(pool)} training rows fall into {len(units)} set{'s' * several} that share "
            f"a group or an input and are not cut apart: too few for training, {what}.",
            fix=fix,
        )


def _cut(pool: Columns, units: Sequence[Unit], size: int, leave: int, salt: str) -> set[Unit]:
    """Units of about `size` rows together, each class in proportion; never a class's last unit.

    At least `leave` units are left over for what is cut after this and for training.
    """
    ranked = sorted(units, key=lambda unit: rank(salt, min(pool.ids[index] for index in unit)))
    kind = {unit: _class_of(pool, unit) for unit in ranked}
    rows: Counter[str] = Counter()
    for unit in ranked:
        rows[kind[unit]] += len(unit)
    quota = allocate(rows, size, 1)
    left = Counter(kind.values())
    taken: set[Unit] = set()
    free = size
    for by_class in (True, False):  # first each class its share, then whatever fits
        for unit in ranked:
            name = kind[unit]
            room = min(free, quota[name]) if by_class else free
            spare = left[name] > 1 and len(ranked) - len(taken) > leave
            if spare and unit not in taken and len(unit) <= room:
                taken.add(unit)
                free -= len(unit)
                quota[name] -= len(unit)
                left[name] -= 1
    if free * 2 > size:  # what is left are units larger than the split should be: one of those
        rest = [unit for unit in ranked if unit not in taken]
        smallest = min(rest, key=len)
        if not taken or (len(rest) > leave and 2 * len(smallest) <= sum(map(len, rest))):
            taken.add(smallest)
    return taken


def _class_of(pool: Columns, unit: Unit) -> str:
    if pool.classes is None:
        return ""
    if len(unit) == 1:
        return pool.classes[unit[0]]
    counts = Counter(pool.classes[index] for index in unit)
    return min(counts, key=lambda output: (-counts[output], output))


def _cut_labels(
    pool: Columns, units: Sequence[Unit], size: int, leave: int, salt: str
) -> set[Unit]:
    """As `_cut`, of rows that have several labels each."""
    ranked = sorted(units, key=lambda unit: rank(salt, min(pool.ids[index] for index in unit)))
    ranked = [unit for unit in ranked if len(unit) <= size]
    rows = sum(map(len, units))
    share = size / max(rows, 1)
    kept = ranked[: max(0, len(units) - leave)]
    return set(distribute(kept, pool.several, [share, 1 - share])[0])


def cut_by_time(
    pool: Columns, wanted: Sequence[tuple[str, int]], column: str
) -> tuple[dict[str, list[int]], list[str]]:
    """The newest rows are the test, the newest of the rest validation; see `cut_all`.

    Rows of one time are not cut apart: they go to the older side, unless that would take more than
    half of a split. Older rows that share a group, an input or a near-duplicate with a newer split
    are left out of training, since neither may they go along nor may they stay.

    Raises:
        InputError: too few rows, or too few different times.
    """
    assert pool.times is not None
    times = pool.times
    order = sorted(range(len(pool)), key=lambda row: (times[row], pool.ids[row]))
    chosen: dict[str, list[int]] = {}
    notes = []
    stop = len(order)
    for name, size in wanted:
        start = stop - size
        edge = times[order[start]] if start >= 0 else 0.0
        tied = 0 < start < stop and times[order[start - 1]] == edge
        if tied:
            later = next((i for i in range(start, stop) if times[order[i]] > edge), stop)
            earlier = next((i for i in range(start, -1, -1) if times[order[i]] < edge), -1) + 1
            start = later if 2 * (stop - later) >= size else earlier
        if start <= 0 or start >= stop:
            raise InputError(
                f"{name} cannot be cut by `data.split.time: {column}`: of {stop} rows too many "
                "have one time.",
                fix="Name a column with finer times, or ask for another size in `data.split`.",
            )
        chosen[name] = order[start:stop]
        aside = f"; {size} are wanted, and rows of one time stay together" if tied else ""
        notes.append(
            f"{name}: {stop - start} of {len(pool)} training rows were cut, from "
            f"{_shown(times[order[start]])} to {_shown(times[order[stop - 1]])}{aside}."
        )
        stop = start
    chosen["train"] = order[:stop]
    seen_inputs: set[int] = set()
    seen_groups: set[str | None] = set()
    dropped = 0
    names = [*(name for name, _ in wanted), "train"]
    for name, older in pairwise(names):
        seen_inputs |= {pool.near[row] for row in chosen[name]}
        seen_groups |= {pool.groups[row] for row in chosen[name]} - {None}
        kept = [
            row
            for row in chosen[older]
            if pool.near[row] not in seen_inputs and pool.groups[row] not in seen_groups
        ]
        dropped += len(chosen[older]) - len(kept)
        chosen[older] = kept
        if not kept:
            raise InputError(
                f"Every {older} row shares a group or an input with newer rows.",
                fix="Name another column as `data.group`, or do not cut by time.",
            )
    if dropped:
        notes.append(
            f"{dropped} older row{'s' * (dropped != 1)} repeat{'s' * (dropped == 1)} an input or a "
            "group of newer splits, or nearly so, and were left out."
        )
    return {name: sorted(rows) for name, rows in chosen.items()}, notes


def _shown(time: float) -> str:
    import datetime

    moment = datetime.datetime.fromtimestamp(time, datetime.UTC)
    return moment.strftime("%Y-%m-%d" if time % 86400 == 0 else "%Y-%m-%d %H:%M")
