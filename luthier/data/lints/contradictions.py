"""The same input with different answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from luthier.data.linting import (
    LINTS,
    MOST_ROWS,
    Finding,
    LintContext,
    number,
    shortened,
    sources,
)
from luthier.data.twins import outputs_of, twins_of

#: Kinds where one input has one right answer, so two answers are a mistake somewhere.
ONE_ANSWER = frozenset({"classification", "extraction", "ner", "qa"})


@LINTS.register("contradictions")
def contradictions(context: LintContext) -> Iterator[Finding]:
    """Inputs that are equal, up to case, spacing and punctuation, with outputs that are not."""
    equal, outputs, everything = twins_of(context).equal, outputs_of(context), context.everything
    # rows of one input side by side, and of those the ones with one output
    order = np.lexsort((outputs, equal))
    same_input = np.diff(equal[order], prepend=-1) == 0
    differs = same_input & (np.diff(outputs[order], prepend=np.uint64(0)) != 0)
    inputs = np.unique(equal[order][differs])
    if not len(inputs):
        return
    rows = np.flatnonzero(np.isin(equal, inputs))
    first_row, found = int(rows[0]), len(inputs)
    other_row = next(
        int(row)
        for row in rows
        if equal[row] == equal[first_row] and outputs[row] != outputs[first_row]
    )
    first, other = everything[first_row], everything[other_row]
    shown = (
        f"{shortened(first.input)!r} has {shortened(first.output)!r} ({first.source}) and "
        f"{shortened(other.output)!r} ({other.source})"
    )
    strict = context.task.kind in ONE_ANSWER
    head = (
        f"{number(len(rows), 'row')} with {number(found, 'distinct input')} have different "
        f"outputs for the same input: {shown}. "
    )
    if strict:
        yield Finding(
            "contradictions",
            "warning",
            len(rows),
            sources(everything[int(row)] for row in rows[:MOST_ROWS]),
            head + "No arm can be right on all of them: training is told both, and in the test "
            "they lower the best score that can be reached.",
            "Look at each and correct the wrong one; when both are right, the input lacks what "
            "tells them apart, or the labels overlap.",
        )
    else:
        yield Finding(
            "contradictions",
            "note",
            len(rows),
            sources(everything[int(row)] for row in rows[:MOST_ROWS]),
            head + "That is as it should be where several answers are right. Bear in mind that "
            "each test row is scored against its own answer only.",
            "Nothing, if each answer is right; else correct or remove the wrong ones.",
        )
