"""Training outputs far shorter than what is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from luthier.data.linting import LINTS, Finding, LintContext, percent, sources
from luthier.task import Task

#: Kinds whose instruction may ask for a length.
KINDS = frozenset({"qa", "summarization", "generation", "chat"})
_ASKED = re.compile(
    r"(?P<most>(?:under|below|most|than|maximum(?: of)?|max\.?|to)\s+)?"
    r"\b(?P<words>\d{1,3}(?:[,.]\d{3})+|\d{2,5})\s*(?:-|\s)?words?\b",
    re.IGNORECASE,
)
#: How many times shorter than asked an output is too short.
FACTOR = 2
#: Words of a reply that says next to nothing.
FEW = 3


@dataclass(frozen=True)
class Brevity:
    """How long training outputs are, in words.

    Attributes:
        typical: the median.
        asked: what is asked for, or None where nothing says.
        by: what says so, with a verb: "the instruction asks for", "`wanted` has".
        short: the share of outputs less than half as long as asked.
        curt: the share of outputs of at most three words.
        rows: the number of outputs.
    """

    typical: float
    asked: float | None
    by: str
    short: float
    curt: float
    rows: int


@LINTS.register("brevity")
def brevity(context: LintContext) -> Iterator[Finding]:
    """Outputs less than half as long as the instruction asks for.

    A model trained on them writes at their length, whatever it is told.
    """
    found = measure(context)
    if found is None or found.asked is None or found.by == "`wanted` has" or found.short <= 0.5:
        return  # `wanted_length` speaks of what is wanted
    short = [
        example
        for example in context.splits.train
        if len(example.output.split()) * FACTOR < found.asked
    ]
    yield Finding(
        "brevity",
        "warning",
        len(short),
        sources(short),
        f"The instruction asks for {found.asked:,.0f} words, and training outputs have "
        f"{found.typical:g} in the middle; {percent(len(short), found.rows)} have less than half. "
        "A trained model writes at the length of its training rows, whatever it is told.",
        "Train on outputs of the length you want, or correct the instruction.",
    )


def measure(context: LintContext) -> Brevity | None:
    """The lengths of the training outputs against what is asked for."""
    return context.once("brevity", lambda: _measure(context))


def _measure(context: LintContext) -> Brevity | None:
    task, train = context.task, context.splits.train
    if task.kind not in KINDS or not train:
        return None
    lengths = [len(example.output.split()) for example in train]
    asked, by = asked_words(task)
    short = sum(words * FACTOR < asked for words in lengths) if asked else 0
    return Brevity(
        typical=median(lengths),
        asked=asked,
        by=by,
        short=short / len(lengths),
        curt=sum(words <= FEW for words in lengths) / len(lengths),
        rows=len(lengths),
    )


def asked_words(task: Task) -> tuple[float | None, str]:
    """(words an answer should have, what says so): a number in the instruction, else `wanted`.

    An upper bound ("at most 50 words") asks for no length.
    """
    named = _ASKED.search(task.instruction)
    if named is not None and not named["most"]:
        return float(re.sub(r"[,.]", "", named["words"])), "the instruction asks for"
    if task.wanted:
        return median(len(text.split()) for text in task.wanted), "`wanted` has"
    return None, ""
