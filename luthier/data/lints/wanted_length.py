"""Training outputs against outputs as the user would like them."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from luthier.data.linting import LINTS, Finding, LintContext, percent, sources

#: How many times longer or shorter the typical output may be before it is another kind of text.
FACTOR = 2.5


@LINTS.register("wanted_length")
def wanted_length(context: LintContext) -> Iterator[Finding]:
    """The median length of training outputs, in words, against that of `wanted`.

    A model trained on one-liners writes one-liners, whatever the prompt asks for.
    """
    wanted, train = context.task.wanted, context.splits.train
    if not wanted or not train:
        return
    wish = median(len(text.split()) for text in wanted)
    lengths = [len(example.output.split()) for example in train]
    typical = median(lengths)
    shorter = typical * FACTOR < wish
    if not shorter and typical <= wish * FACTOR:
        return
    if abs(typical - wish) < 3:  # one word or three: no difference in kind
        return
    off = [
        example
        for example, words in zip(train, lengths, strict=True)
        if (words * FACTOR < wish if shorter else words > wish * FACTOR)
    ]
    yield Finding(
        "wanted_length",
        "warning",
        len(off),
        sources(off),
        f"Training outputs are much {'shorter' if shorter else 'longer'} than the outputs you "
        f"want: {typical:g} words in the middle against {wish:g}; {percent(len(off), len(train))} "
        f"are over {FACTOR:g} times {'shorter' if shorter else 'longer'}. A trained model will "
        "write at the length of its training rows.",
        "Train on rows like those you want, or correct `wanted`.",
    )
