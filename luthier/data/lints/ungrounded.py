"""Answers with facts that the prompt does not hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.examples import Example
from luthier.data.linting import LINTS, Finding, LintContext, shortened, sources

#: Kinds in which facts come from the prompt, or ought to.
KINDS = frozenset({"qa", "summarization", "extraction", "generation", "chat"})
#: Rows looked at, and the fewest with a fact that say something.
LOOKED_AT, FEWEST = 5_000, 50
#: Share of rows with a foreign fact, among rows with any, above which the model must know or
#: invent them.
MANY = 0.6
#: Share of all rows that must state a fact: stories and advice do so rarely.
STATES = 0.3
# Numbers of two digits and more (a list's "1." is no fact), and words with a capital that do not
# begin a sentence, two in a row or with a digit: names, products, dates.
_NUMBER = re.compile(r"(?<![\w.])\d[\d.,:/-]*\d(?!\w)")
_NAME = re.compile(r"(?<=[a-z,;] )([A-Z][\w’'-]+(?:\s+(?:of |the |de |van |von )?[A-Z][\w’'-]+)*)")
_COMMON = frozenset(
    ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "i", "i'm")
)


def facts_of(text: str) -> list[str]:
    """Numbers and names in a text, in order, as written."""
    found = [match.rstrip(".,:/-") for match in _NUMBER.findall(text)]
    names = (name for name in _NAME.findall(text) if name.casefold() not in _COMMON)
    return [*found, *names]


def foreign_facts(example: Example, known: str = "") -> list[str]:
    """The facts of an output that neither its prompt nor `known` (the instruction) holds."""
    prompt = " ".join([known, *(m.content for m in example.messages)])
    words = set(re.findall(r"\w+", prompt.casefold()))
    return [
        fact
        for fact in facts_of(example.output)
        if not any(word in words for word in re.findall(r"\w+", fact.casefold()) if len(word) > 1)
    ]


@LINTS.register("ungrounded")
def ungrounded(context: LintContext) -> Iterator[Finding]:
    """Names, numbers and dates in outputs that are nowhere in their prompts.

    Tuning teaches behaviour; facts that are not in the prompt are learned badly and invented
    where they were not learned (Ovadia et al. 2023, arXiv 2312.05934: a fine-tuned model answered
    0.504 of the questions on new facts, retrieval 0.875).
    """
    task = context.task
    if task.kind not in KINDS or task.documents is not None:
        return
    drawn = context.sample("train", LOOKED_AT)
    stating = [e for e in drawn.examples if e.messages and _states(e)]
    if len(stating) < max(FEWEST, STATES * len(drawn.examples)):
        return
    found = [(e, foreign) for e in stating if (foreign := foreign_facts(e, task.instruction))]
    if len(found) <= MANY * len(stating):
        return
    example, foreign = found[0]
    yield Finding(
        "ungrounded",
        # a question has one right answer; a story may well make up its names
        "warning" if task.kind == "qa" else "note",
        len(found),
        sources(e for e, _ in found),
        f"{len(found):,} of {len(stating):,} training outputs with names, numbers or dates"
        f"{drawn.said} state some that are not in the prompt, such as "
        f"{shortened(', '.join(foreign[:3]))!r} in {shortened(example.output)!r} "
        f"({example.source}). Tuning teaches how to answer; facts are learned badly from rows and "
        "are invented where they were not learned.",
        "Use retrieval: name the source of the facts as `documents`, so that they are in the "
        "prompt. Where the facts may be made up, nothing need be done.",
    )


def _states(example: Example) -> bool:
    # short answers of a closed-book question are facts from end to end
    text = example.output
    return bool(facts_of(text)) or (
        len(text.split()) <= 5 and any(c.isupper() or c.isdigit() for c in text)
    )
