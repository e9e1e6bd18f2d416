"""Tasks and rows for the tests of lints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthier.data.examples import Example, Message, Splits
from luthier.data.linting import LINTS, Finding, LintContext
from luthier.task import Task

#: (input, output), with fields as a third part where there are any.
Pair = tuple[Any, ...]


def examples(name: str, pairs: Sequence[Pair]) -> tuple[Example, ...]:
    """Rows as they would be read from `name`.csv."""
    return tuple(
        Example(
            id=f"{name}-{n}",
            messages=(Message("user", pair[0]),),
            output=pair[1],
            source=f"{name}.csv row {n}",
            fields=pair[2] if len(pair) > 2 else None,
        )
        for n, pair in enumerate(pairs, 1)
    )


def looked_at(
    train: Sequence[Pair],
    *,
    kind: str = "generation",
    labels: tuple[str, ...] | None = None,
    context: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    test: Sequence[Pair] = (),
    **task: Any,
) -> LintContext:
    """What lints look at, of a task with these training rows."""
    rows = {"train": "t", "input": "{{ q }}", "output": "{{ a }}", **(data or {})}
    path = task.pop("path", "task.yaml")
    made = Task.from_dict({"name": "t", "kind": kind, "data": rows, **task}, path=path)
    splits = Splits(examples("train", train), (), examples("test", test))
    return LintContext(made, splits, labels, **(context or {}))


def run(name: str, context: LintContext) -> list[Finding]:
    """What one lint finds."""
    return list(LINTS.get(name)(context))
