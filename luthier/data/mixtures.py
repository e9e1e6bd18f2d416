"""Several tasks tuned at once: whose turn it is, and with which of its rows.

A mixture is a list of rows of all tasks and an order of drawing from them. The order is a pure
function of sizes, shares and seed, so an interrupted stage stores no position, and the training
loop sees nothing but a list.

Shares: given as weights, or by temperature, p_i in proportion to min(n_i, cap)^(1/T), n_i being
the rows of task i: in proportion to the rows at T = 1, closer to equal shares above (Arivazhagan et
al. 2019, "Massively Multilingual Neural Machine Translation in the Wild", arXiv 1907.05019; with
the cap K of examples-proportional mixing, Raffel et al. 2020, "T5", JMLR 21:140, section 3.5.2).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

from luthier.data.examples import Example, Message
from luthier.data.held_out import without_tests
from luthier.data.prepare import Prepared, prepare
from luthier.data.shares import sample
from luthier.errors import InputError
from luthier.task import Task


@dataclass(frozen=True)
class Mixed:
    """The rows of a mixture.

    Attributes:
        examples: all tasks' training rows, one task after another; each row of another task
            carries that task's instruction as its system turn.
        tasks: for each example the name of its task.
        shares: of each task in what is drawn; they add up to 1.
        notes: for people.
    """

    examples: tuple[Example, ...]
    tasks: tuple[str, ...]
    shares: dict[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Others:
    """The other tasks of a mixture.

    Attributes:
        tasks: each with its data, by name.
        weights: that the file gives to them and to the task itself, by name; None for none.
    """

    tasks: dict[str, tuple[Task, Prepared]]
    weights: dict[str, float | None]


@dataclass(frozen=True)
class SourceUse:
    """What a mixture takes of one of its tasks.

    Attributes:
        name: the task's.
        rows: training rows it has in the mixture.
        share: of all draws.
        draws: of its rows, at the chosen number of draws.
        epochs: how often each of its rows is drawn, on average.
        tokens: of all its rows, and `drawn_tokens` of its draws; None where nobody counted.
    """

    name: str
    rows: int
    share: float
    draws: int
    epochs: float
    tokens: int | None = None
    drawn_tokens: int | None = None


def shares(
    sizes: Sequence[int],
    *,
    weights: Sequence[float | None] | None = None,
    temperature: float | None = None,
    cap: int | None = None,
) -> list[float]:
    """The share p_i of each task; they add up to 1.

    Args:
        sizes: rows of each task, at least 1.
        weights: p_i in proportion to these, None standing for 1; where all are None the sizes
            decide.
        temperature: T in p_i ~ min(n_i, cap)^(1/T); 1 when None.
        cap: the most rows a task counts for.
    """
    if weights is not None and any(weight is not None for weight in weights):
        raw = [1.0 if weight is None else float(weight) for weight in weights]
    else:
        counted = [min(size, cap) if cap else size for size in sizes]
        # relative to the largest, so that a high power of it stays finite
        raw = [(size / max(counted)) ** (1 / (temperature or 1.0)) for size in counted]
    return [one / sum(raw) for one in raw]


def turns(parts: Sequence[float], total: int) -> list[int]:
    """Whose turn each of `total` draws is: always the task furthest below its share.

    No task is ever a whole draw ahead of its share, and no random number is needed.

    Args:
        parts: the share of each task, adding up to 1.
        total: draws.
    """
    return list(islice(turn_by_turn(parts), total))


def turn_by_turn(parts: Sequence[float]) -> Iterator[int]:
    """`turns`, one after another without end."""
    drawn = [0] * len(parts)
    for step in count(1):
        behind = [part * step - already for part, already in zip(parts, drawn, strict=True)]
        chosen = max(range(len(parts)), key=lambda task: (behind[task], -task))
        drawn[chosen] += 1
        yield chosen


def draw(sizes: Sequence[int], parts: Sequence[float], total: int, seed: int) -> list[int]:
    """The rows of `total` draws, as places in the tasks' rows put one after another.

    Each task goes through all its rows in a random order before any of them comes again, so after
    c draws of n rows each was seen c // n times or once more.

    Args:
        sizes: rows of each task.
        parts: the share of each task.
        total: draws.
        seed: of the orders; the result depends on nothing else.
    """
    starts = [sum(sizes[:task]) for task in range(len(sizes))]
    drawn = [0] * len(sizes)
    epochs: dict[int, list[int]] = {}
    rows = []
    for task in turns(parts, total):
        epoch, place = divmod(drawn[task], sizes[task])
        if place == 0:
            # a string seeds by its bytes, the same on every platform
            epochs[task] = list(range(sizes[task]))
            random.Random(f"mixture-{seed}-{task}-{epoch}").shuffle(epochs[task])
        rows.append(starts[task] + epochs[task][place])
        drawn[task] += 1
    return rows


def use_of(
    mixed: Mixed, total: int, count_tokens: Callable[[Example], int] | None = None
) -> list[SourceUse]:
    """What so many draws take of each task of a mixture.

    Args:
        mixed: the mixture.
        total: draws, steps times the examples of a step.
        count_tokens: the tokens of an example as it is trained.
    """
    drawn = Counter(turns(list(mixed.shares.values()), total))
    sizes = Counter(mixed.tasks)
    tokens: Counter[str] = Counter()
    if count_tokens is not None:
        for example, name in zip(mixed.examples, mixed.tasks, strict=True):
            tokens[name] += count_tokens(example)
    return [
        SourceUse(
            name=name,
            rows=sizes[name],
            share=share,
            draws=drawn[place],
            epochs=drawn[place] / sizes[name] if sizes[name] else 0.0,
            tokens=tokens[name] if count_tokens else None,
            drawn_tokens=round(tokens[name] * drawn[place] / sizes[name]) if count_tokens else None,
        )
        for place, (name, share) in enumerate(mixed.shares.items())
    ]


def others(task: Task) -> Others:
    """Read the other tasks of `task.mixture`, with their data.

    Raises:
        InputError: as for `members`; or data that cannot be used.
    """
    named, weights = members(task)
    found: dict[str, tuple[Task, Prepared]] = {}
    for name, (other, where) in named.items():
        try:
            found[name] = other, prepare(other)
        except InputError as error:
            raise InputError(f"{where}: {error.message}", fix=error.fix) from None
    return Others(found, weights)


def members(task: Task) -> tuple[dict[str, tuple[Task, str]], dict[str, float | None]]:
    """(the other tasks of `task.mixture` by name, each with the key that names it; the weights of
    all, this task's too).

    Raises:
        InputError: a task that is missing or cannot be read, one that is this task itself, or two
            of one name. The message names the key.
    """
    found: dict[str, tuple[Task, str]] = {}
    weights: dict[str, float | None] = {task.name: None}
    for index, member in enumerate(task.mixture.tasks if task.mixture else ()):
        if member.task is None:
            weights[task.name] = member.weight
            continue
        where = f"{task.path}: `mixture.tasks.{index}.task`"
        try:
            other = Task.load(task.folder / member.task)
            if other.path.resolve() == task.path.resolve():
                raise InputError(
                    "is this task itself.", fix="Leave out `task` to give it a weight."
                )
            if other.name in (task.name, *found):
                raise InputError(
                    f"is called {other.name!r}, as another task of the mixture.",
                    fix="Change the `name` in one of the files.",
                )
            found[other.name] = other, where
            weights[other.name] = member.weight
        except InputError as error:
            raise InputError(f"{where}: {error.message}", fix=error.fix) from None
    return found, weights


def mix(task: Task, prepared: Prepared, read: Others) -> Mixed:
    """The mixture of a task with the others it names.

    Rows that any of the tasks tests or validates on are left out of the others' training rows.

    Args:
        task: has a `mixture`.
        prepared: its data.
        read: of `others(task)`.

    Raises:
        InputError: a task has no training rows left.
    """
    assert task.mixture is not None
    names = [task.name, *read.tasks]
    held = [
        rows
        for one in (prepared, *(data for _, data in read.tasks.values()))
        for rows in (one.splits.test, one.splits.validation)
    ]
    rows: dict[str, Sequence[Example]] = {task.name: prepared.splits.train}
    notes = []
    for name, (other, data) in read.tasks.items():
        kept, left_out = without_tests(data.splits.train, held)
        if left_out:
            notes.append(
                f"{name}: {left_out} training rows are asked in a test or validation split of the "
                "mixture, and were left out."
            )
        if not kept:
            raise InputError(f"{other.path}: no training row is left for the mixture.")
        rows[name] = tuple(carrying(example, other.instruction) for example in kept)
    for name, most in _most_rows(task, read).items():
        if len(rows[name]) > most:
            notes.append(f"{name}: {most} of {len(rows[name])} training rows are used.")
            classify = (task if name == task.name else read.tasks[name][0]).kind == "classification"
            rows[name] = tuple(sample(rows[name], most, classify, 1, f"{task.seed}:mixture"))
    parts = shares(
        [len(rows[name]) for name in names],
        weights=[read.weights[name] for name in names],
        temperature=task.mixture.temperature,
        cap=task.mixture.cap,
    )
    return Mixed(
        examples=tuple(example for name in names for example in rows[name]),
        tasks=tuple(name for name in names for _ in rows[name]),
        shares=dict(zip(names, parts, strict=True)),
        notes=tuple(notes),
    )


def _most_rows(task: Task, read: Others) -> dict[str, int]:
    """The most rows of each task that has such a limit, by name."""
    assert task.mixture is not None
    names = iter(read.tasks)
    named = [
        (task.name if member.task is None else next(names), member.rows)
        for member in task.mixture.tasks
    ]
    return {name: most for name, most in named if most is not None}


def carrying(example: Example, instruction: str) -> Example:
    """The example with an instruction of its own; a system turn it has is kept."""
    if example.messages[0].role == "system":
        return example
    return replace(example, messages=(Message("system", instruction), *example.messages))
