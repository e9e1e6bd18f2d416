"""The labels of a classification: which there are, and whether every row has one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from luthier.data.examples import Example
from luthier.errors import InputError, did_you_mean


def infer_labels(train: Sequence[Example]) -> tuple[str, ...]:
    """The distinct outputs of the training rows, sorted.

    Raises:
        InputError: there is only one: nothing to tell apart.
    """
    labels = tuple(sorted({example.output for example in train}))
    if len(labels) < 2:
        raise InputError(
            f"Every training row has the output {labels[0]!r}; a classification needs two labels.",
            fix="Check `data.output`, or list `labels` in the task.",
        )
    return labels


def check_labels(examples: Sequence[Example], labels: Sequence[str], listed: bool) -> None:
    """Raise `InputError` for a row whose output is no label.

    Args:
        examples: of any split.
        labels: what an output may be.
        listed: whether the task lists them; else they came from the training rows.
    """
    known = set(labels)
    outside = [example for example in examples if example.output not in known]
    if not outside:
        return
    first = outside[0]
    more = f" ({len(outside)} rows have an output that is none)" if len(outside) > 1 else ""
    given = first.output if len(first.output) <= 60 else f"{first.output[:60]}..."
    raise InputError(
        f"{first.source} has the label {given!r}, which is not among the "
        + ("task's `labels`" if listed else "labels of the training rows")
        + f"{more}.",
        fix=did_you_mean(first.output, labels),
    )


def check_single_rows(train: Sequence[Example]) -> None:
    """Raise `InputError` for classes with one row when other splits are cut from these rows."""
    counts = Counter(example.output for example in train)
    if 1 not in counts.values():
        return
    alone = [example for example in train if counts[example.output] == 1]
    shown = ", ".join(f"{e.output[:60]!r} ({e.source})" for e in alone[:5])
    shown += ", ..." * (len(alone) > 5)
    if len(alone) > 10 and 2 * len(alone) > len(counts):
        raise InputError(
            f"{len(alone)} of {len(counts)} labels occur once: {shown}.",
            fix="That is free text and no classification: change `kind`, or check `data.output`.",
        )
    several = len(alone) > 1
    raise InputError(
        f"{len(alone)} class{'es have' if several else ' has'} one row: {shown}. "
        "It cannot be in training and in what is cut from it.",
        fix="Add rows of it, merge it with another class, or remove it.",
    )
