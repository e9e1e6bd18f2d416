"""The same input with different answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from luthier.data.examples import Example
from luthier.data.folding import fold, fold_conversation
from luthier.data.linting import LINTS, Finding, LintContext, number, shortened, sources

#: Kinds where one input has one right answer, so two answers are a mistake somewhere.
ONE_ANSWER = frozenset({"classification", "extraction", "ner", "qa"})


@LINTS.register("contradictions")
def contradictions(context: LintContext) -> Iterator[Finding]:
    """Inputs that are equal, up to case, spacing and punctuation, with outputs that are not."""
    answers: dict[object, list[Example]] = defaultdict(list)
    for example in context.everything:
        answers[fold_conversation(example.messages)].append(example)
    found = [
        group
        for group in answers.values()
        if len(group) > 1 and len({fold(example.output) for example in group}) > 1
    ]
    if not found:
        return
    rows = [example for group in found for example in group]
    first = found[0][0]
    other = next(e for e in found[0] if fold(e.output) != fold(first.output))
    shown = (
        f"{shortened(first.input)!r} has {shortened(first.output)!r} ({first.source}) and "
        f"{shortened(other.output)!r} ({other.source})"
    )
    strict = context.task.kind in ONE_ANSWER
    head = (
        f"{number(len(rows), 'row')} with {number(len(found), 'distinct input')} have different "
        f"outputs for the same input: {shown}. "
    )
    if strict:
        yield Finding(
            "contradictions",
            "warning",
            len(rows),
            sources(rows),
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
            sources(rows),
            head + "That is as it should be where several answers are right. Bear in mind that "
            "each test row is scored against its own answer only.",
            "Nothing, if each answer is right; else correct or remove the wrong ones.",
        )
