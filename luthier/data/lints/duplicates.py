"""Training rows that repeat others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from luthier.data.examples import Example
from luthier.data.folding import fold, fold_conversation
from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources

#: The share of repeats in training above which they are more than an accident.
MANY = 0.05


@LINTS.register("duplicates")
def duplicates(context: LintContext) -> Iterator[Finding]:
    """Training rows with the input and the output of an earlier one.

    Repeats weigh a row more than its fellows and invite learning it by heart.
    """
    train = context.splits.train
    first: dict[object, Example] = {}
    repeats: dict[object, list[Example]] = defaultdict(list)
    for example in train:
        key = (fold_conversation(example.messages), fold(example.output))
        if key in first:
            repeats[key].append(example)
        else:
            first[key] = example
    count = sum(map(len, repeats.values()))
    if not count:
        return
    most = max(repeats, key=lambda key: len(repeats[key]))
    yield Finding(
        "duplicates",
        "warning" if count > MANY * len(train) else "note",
        count,
        sources(example for group in repeats.values() for example in group),
        f"{number(count, 'training row')} ({percent(count, len(train))}) "
        f"{'repeats' if count == 1 else 'repeat'} another, up to case, spacing and punctuation; "
        f"the most frequent stands {len(repeats[most]) + 1} times: "
        f"{shortened(first[most].input)!r} ({first[most].source}). A repeated row counts more than "
        "others and is learned by heart.",
        "Keep one of each, unless the repeats are how often the thing really comes.",
    )
