"""Test or validation rows that training has seen."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.examples import Example
from luthier.data.folding import fold_conversation
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

#: The share of a split above which its scores are no longer to be trusted.
SERIOUS = 0.02


@LINTS.register("leakage")
def leakage(context: LintContext) -> Iterator[Finding]:
    """Inputs of the test (and validation) that are, but for case, space and punctuation, in train.

    An arm can answer those from memory, so the score says less about new inputs.
    """
    splits = context.splits
    pairs = (
        ("test", splits.test, "training", splits.train),
        ("validation", splits.validation, "training", splits.train),
        ("test", splits.test, "validation", splits.validation),
    )
    for name, examples, other, seen_in in pairs:
        seen: dict[object, Example] = {}
        for example in seen_in:
            seen.setdefault(fold_conversation(example.messages), example)
        leaked = [
            (example, seen[key])
            for example in examples
            if (key := fold_conversation(example.messages)) in seen
        ]
        if not leaked:
            continue
        severity: Severity = "error" if len(leaked) > SERIOUS * len(examples) else "warning"
        if other == "validation" or name == "validation":
            severity = "warning"  # choices suffer, the locked test does not
        first, twin = leaked[0]
        yield Finding(
            "leakage",
            severity,
            len(leaked),
            sources(example for example, _ in leaked),
            f"{number(len(leaked), f'{name} input')} ({percent(len(leaked), len(examples))}) "
            f"{'is' if len(leaked) == 1 else 'are'} also in {other}, up to case, spacing and "
            f"punctuation: {first.source} as {twin.source} ({shortened(first.input)!r}). Arms can "
            f"answer these from memory, so the {name} score flatters them.",
            f"Remove these rows from one of the two, or leave `data.{name}` out: a cut never puts "
            "one input on both sides.",
        )


@LINTS.register("shared_groups")
def shared_groups(context: LintContext) -> Iterator[Finding]:
    """Groups (threads, authors, documents) with rows in training and in the test or validation."""
    column = context.task.data.group
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
