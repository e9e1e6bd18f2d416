"""Test or validation rows that training has seen, nearly seen, or could not have known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from luthier.data.examples import Example
from luthier.data.linting import (
    LINTS,
    Finding,
    LintContext,
    Severity,
    number,
    percent,
    shortened,
    sources,
)
from luthier.data.times import parse_time
from luthier.data.twins import SIDES, twins_of

#: The share of a split above which its scores are no longer to be trusted.
SERIOUS = 0.02
#: Columns that often name who or what a row belongs to.
_ENTITIES = re.compile(
    r"(?i)^(?:.*[_ ]?(?:user|author|customer|client|speaker|patient|reviewer|account|thread|"
    r"conversation|session|ticket|document|doc|article|chat|channel)(?:[_ ]?(?:id|name))?)$"
)
#: The share of test rows that must share such a value with training before anything is said.
_SHARED = 0.3


@LINTS.register("leakage")
def leakage(context: LintContext) -> Iterator[Finding]:
    """Inputs of the test (and validation) that are, but for case, space and punctuation, in train,
    and those that differ from one there in about one word in ten.

    An arm can answer those from memory, so the score says less about new inputs.
    """
    across, everything = twins_of(context).across, context.everything
    for name, other in (("test", "train"), ("validation", "train"), ("test", "validation")):
        found = across.get((SIDES[name], SIDES[other]), {})
        examples: Sequence[Example] = getattr(context.splits, name)
        seen_in = "training" if other == "train" else other
        equal = {row: twin for row, (twin, same) in found.items() if same}
        near = {row: twin for row, (twin, same) in found.items() if not same}
        if equal:
            count = len(equal)
            row, twin = next(iter(equal.items()))
            severity: Severity = "error" if count > SERIOUS * len(examples) else "warning"
            if other == "validation" or name == "validation":
                severity = "warning"  # choices suffer, the locked test does not
            yield Finding(
                "leakage",
                severity,
                count,
                sources(everything[place] for place in equal),
                f"{number(count, f'{name} input')} ({percent(count, len(examples))}) "
                f"{'is' if count == 1 else 'are'} also in {seen_in}, up to case, spacing and "
                f"punctuation: {everything[row].source} as {everything[twin].source} "
                f"({shortened(everything[row].input)!r}). Arms can answer these from memory, so "
                f"the {name} score flatters them.",
                f"Remove these rows from one of the two, or leave `data.{name}` out: a cut never "
                "puts one input on both sides.",
            )
        if near:
            count = len(near)
            row, twin = next(iter(near.items()))
            yield Finding(
                "near_leakage",
                "warning" if other == "train" and count > SERIOUS * len(examples) else "note",
                count,
                sources(everything[place] for place in near),
                f"{number(count, f'{name} input')} ({percent(count, len(examples))}) "
                f"{'differs' if count == 1 else 'differ'} from one in {seen_in} in about one word "
                f"in ten: {everything[row].source} ({shortened(everything[row].input)!r}) and "
                f"{everything[twin].source} ({shortened(everything[twin].input)!r}). Where both "
                f"are one text with a small change, the {name} score flatters what remembers it.",
                f"Look at them; remove copies from {seen_in}, or leave `data.{name}` out: a cut "
                "never parts them.",
            )


@LINTS.register("time_leakage")
def time_leakage(context: LintContext) -> Iterator[Finding]:
    """Test rows that are older than training rows, where `data.split.time` names a column."""
    column = context.task.data.split.time
    if column is None:
        return
    test = [(_time(example, column), example) for example in context.splits.test]
    newest = max(
        (time for e in context.splits.train if (time := _time(e, column)) is not None),
        default=None,
    )
    if newest is None:
        return
    older = [example for time, example in test if time is not None and time < newest]
    if older:
        yield Finding(
            "time_leakage",
            "warning",
            len(older),
            sources(older),
            f"{number(len(older), 'test row')} ({percent(len(older), len(test))}) "
            f"{'is' if len(older) == 1 else 'are'} older than the newest training row, by "
            f"{column!r}, so training knows what came after them and the score is not one for the "
            "future.",
            "Give older rows to training and newer ones to the test, or leave `data.test` out: it "
            "is then cut by time.",
        )


@LINTS.register("shared_entities")
def shared_entities(context: LintContext) -> Iterator[Finding]:
    """Columns such as author or thread_id whose values many test rows share with training, where
    `data.group` names no column."""
    if context.task.data.group is not None or not context.splits.test:
        return
    test = context.splits.test
    columns = [name for name in test[0].fields or {} if _ENTITIES.fullmatch(name)]
    if not columns:
        return
    seen: dict[str, Counter[str]] = {name: Counter() for name in columns}
    for example in context.splits.train:
        for name in columns:
            if (value := (example.fields or {}).get(name)) not in (None, ""):
                seen[name][str(value)] += 1
    for name in columns:
        rows = sum(seen[name].values())
        # a few values for all rows are a kind, one value a row is a number: neither is an entity
        if not rows or len(seen[name]) < 10 or rows < 1.2 * len(seen[name]):
            continue
        shared = [e for e in test if seen[name][str((e.fields or {}).get(name))]]
        if len(shared) < _SHARED * len(test):
            continue
        yield Finding(
            "shared_entities",
            "note",
            len(shared),
            sources(shared),
            f"{number(len(shared), 'test row')} ({percent(len(shared), len(test))}) "
            f"{'has' if len(shared) == 1 else 'have'} a value of {name!r} that training rows have "
            f"too. If the answers depend on it, the score is one for known values of {name!r} and "
            "may be worse for new ones.",
            f"Set `data.group: {name}`, if what is tuned will meet new ones.",
        )


def _time(example: Example, column: str) -> float | None:
    return parse_time((example.fields or {}).get(column))


@LINTS.register("shared_groups")
def shared_groups(context: LintContext) -> Iterator[Finding]:
    """Groups (threads, authors, documents) with rows in training and in the test or validation."""
    column = context.task.data.group
    if column is None:
        return
    train = {example.group for example in context.splits.train} - {None}
    for name in ("test", "validation"):
        examples = getattr(context.splits, name)
        leaked = [example for example in examples if example.group in train]
        if leaked:
            groups = {example.group for example in leaked}
            yield Finding(
                "shared_groups",
                "error" if name == "test" else "warning",
                len(leaked),
                sources(leaked),
                f"{number(len(leaked), f'{name} row')} ({percent(len(leaked), len(examples))}) "
                f"{'belongs' if len(leaked) == 1 else 'belong'} to "
                f"{number(len(groups), 'group')} of {column!r} that training has rows of too, so "
                "the score is not one for new groups.",
                f"Give each group to one file only, or leave `data.{name}` out: a cut never "
                "parts a group.",
            )
