"""Training, validation and test: given, or cut from the training rows.

A cut is decided by hashes of the seed and the examples' ids, so it is the same on any machine and
does not depend on the order of the file. Rows that belong together (one `group`, or the same input
up to case, space and punctuation) are never cut apart. For classification every split gets its
share of each class.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from luthier.data.examples import Example, Splits
from luthier.data.folding import fold_conversation
from luthier.data.shares import allocate, rank, sample
from luthier.errors import InputError
from luthier.task import Limit

#: (largest, smallest) size of a split that is cut, in rows, unless a limit says else.
TEST_SIZE = (500, 20)
VALIDATION_SIZE = (100, 10)
#: Fewest rows that a test, or a validation split alone, is cut from.
FEWEST_FOR_TEST = 10
FEWEST_FOR_VALIDATION = 5

#: Rows that stay together, as indices into the pool.
Unit = tuple[int, ...]


def make_splits(
    train: Sequence[Example],
    validation: Sequence[Example] | None,
    test: Sequence[Example] | None,
    *,
    limit: Limit,
    seed: int,
    stratify: bool,
) -> tuple[Splits, tuple[str, ...]]:
    """Cut what is not given from `train`, then keep to the limits.

    Cut sizes: the test 20 % of the rows, at most 500 (or its limit), at least 20 where there are
    enough; validation 20 % of what is left, at most 100 (or its limit), at least 10.
    `limit.train` counts rows after cutting: the other splits come from the rest of the file, and
    shrink, down to those least sizes, before training gets fewer rows than its limit.

    Training rows are shuffled by the seed; validation and test keep the order of their file.

    Args:
        train: the rows of the training source, in order.
        validation: the rows of its source, or None to cut it.
        test: likewise.
        limit: the most rows of each split.
        seed: what the cut and the shuffle depend on.
        stratify: keep the shares of the outputs (classes) alike.

    Returns:
        the splits, and notes on what was cut and left out.

    Raises:
        InputError: too few rows, or too few groups, to cut from.
    """
    pool = list(train)
    parts = {"train": pool, "validation": list(validation or ()), "test": list(test or ())}
    cuts = [name for name, given in (("test", test), ("validation", validation)) if given is None]
    notes: list[str] = []
    if cuts:
        sizes = cut_sizes(len(pool), limit, test is None, validation is None)
        wanted = [(name, size) for name, size in sizes.items() if name in cuts]
        cut, notes = _cut_all(pool, wanted, stratify, seed)
        parts |= cut
    for name in ("train", "validation", "test"):
        most = getattr(limit, name)
        if most is not None and len(parts[name]) > most:
            notes.append(f"{name}: {most} of {len(parts[name])} rows are used (limit.{name}).")
            least = 2 if name == "train" else 0
            parts[name] = sample(parts[name], most, stratify, least, f"{seed}:limit:{name}")
    order = sorted(parts["train"], key=lambda example: rank(f"{seed}:order", example.id))
    return Splits(tuple(order), tuple(parts["validation"]), tuple(parts["test"])), tuple(notes)


def cut_sizes(rows: int, limit: Limit, cut_test: bool, cut_validation: bool) -> dict[str, int]:
    """How many of `rows` rows to cut for the test and for validation; 0 for one that is given."""
    test = test_least = validation = validation_least = 0
    if cut_test:
        most = limit.test or TEST_SIZE[0]
        test_least = min(TEST_SIZE[1], rows * 2 // 5, most)
        test = min(most, max(rows // 5, test_least))
    if cut_validation:
        most = limit.validation or VALIDATION_SIZE[0]
        validation_least = min(VALIDATION_SIZE[1], (rows - test_least) * 2 // 5, most)
        validation = min(most, max((rows - test) // 5, validation_least))
    spare = rows - (limit.train or rows)
    if 0 < spare < test + validation:
        least = test_least + validation_least
        room = max(spare, least) - least
        wish = test + validation - least
        if wish > 0:
            extra = room * (test - test_least) // wish
            test, validation = test_least + extra, validation_least + (room - extra)
    return {"test": test, "validation": validation}


def _cut_all(
    pool: Sequence[Example], wanted: Sequence[tuple[str, int]], stratify: bool, seed: int
) -> tuple[dict[str, list[Example]], list[str]]:
    """(the splits by name, training too; notes) of cutting each wanted (name, size)."""
    by_input = [fold_conversation(example.messages) for example in pool]
    by_group = [example.group for example in pool]
    grouped = any(group is not None for group in by_group)
    together, groups = _units(by_input, by_group), _units(by_group)
    _check_enough(pool, groups if grouped else together, [name for name, _ in wanted])
    chosen: dict[str, list[int]] = {name: [] for name, _ in wanted}
    dropped: set[int] = set()
    if len(together) > len(wanted):
        chosen = _cut_units(pool, together, wanted, stratify, seed)
    if grouped and any(2 * len(chosen[name]) < size for name, size in wanted):
        # Frequent inputs chain most groups together: cut groups, and repeats leave training.
        chosen = _cut_units(pool, groups, wanted, stratify, seed)
        seen: set[object] = set()
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
            kept = sample([pool[i] for i in chosen[name]], size, stratify, 0, f"{seed}:{name}")
            ids = {example.id for example in kept}
            chosen[name] = [i for i in chosen[name] if pool[i].id in ids]
            aside = f"; {got - size} more rows of their groups are left out"
        notes.append(f"{name}: {len(chosen[name])} of {len(pool)} training rows were cut{aside}.")
    if dropped:
        notes.append(
            f"{len(dropped)} rows repeat an input of the test or of validation from another "
            "group, and were left out."
        )
    return {name: [pool[i] for i in sorted(rows)] for name, rows in chosen.items()}, notes


def _cut_units(
    pool: Sequence[Example],
    units: Sequence[Unit],
    wanted: Sequence[tuple[str, int]],
    stratify: bool,
    seed: int,
) -> dict[str, list[int]]:
    """The rows of each wanted split, and of "train", as indices into the pool."""
    left = list(units)
    chosen = {}
    for cuts_to_come, (name, size) in zip(range(len(wanted), 0, -1), wanted, strict=True):
        taken = _cut(pool, left, size, cuts_to_come, stratify, f"{seed}:{name}")
        left = [unit for unit in left if unit not in taken]
        chosen[name] = [index for unit in taken for index in unit]
    chosen["train"] = [index for unit in left for index in unit]
    return chosen


def _units(*keys: Sequence[object]) -> list[Unit]:
    """Rows that share a key, directly or through others (union-find); None is no key."""
    parent = list(range(len(keys[0])))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for column in keys:
        first: dict[object, int] = {}
        for index, key in enumerate(column):
            if key is not None:
                parent[root(index)] = root(first.setdefault(key, index))
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(parent)):
        members[root(index)].append(index)
    return [tuple(unit) for unit in members.values()]


def _check_enough(pool: Sequence[Example], units: Sequence[Unit], cuts: Sequence[str]) -> None:
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


def _cut(
    pool: Sequence[Example],
    units: Sequence[Unit],
    size: int,
    leave: int,
    stratify: bool,
    salt: str,
) -> set[Unit]:
    """Units of about `size` rows together, each class in proportion; never a class's last unit.

    At least `leave` units are left over for what is cut after this and for training.
    """
    ranked = sorted(units, key=lambda unit: rank(salt, min(pool[index].id for index in unit)))
    kind = {unit: _class_of(pool, unit) if stratify else "" for unit in ranked}
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


def _class_of(pool: Sequence[Example], unit: Unit) -> str:
    counts = Counter(pool[index].output for index in unit)
    return min(counts, key=lambda output: (-counts[output], output))
