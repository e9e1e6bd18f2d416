"""Texts that hang on the day they were written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources

#: Kinds whose outputs claim something. (A translation of "today" is right at any time.)
KINDS = frozenset({"qa", "summarization", "generation", "chat"})
#: The share of outputs above which it is more than an accident.
MANY = 0.02
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DATED = re.compile(
    rf"\b(?:as of (?:today|now|this writing|{_MONTH}\b|\d{{4}}\b|my (?:last|latest|knowledge))|"
    r"today['’]?s date|today is (?:the|mon|tues|wednes|thurs|fri|satur|sun|\d)|"
    r"the current (?:date|year|time) is|(?:at|as of) the time of (?:this )?writing|"
    r"my (?:knowledge|training)(?: data)? (?:cut-?off|ends|was last updated)|"
    r"knowledge cut-?off|(?:it is|it['’]s) (?:currently|now) \d)",
    re.IGNORECASE,
)


@LINTS.register("todays_date")
def todays_date(context: LintContext) -> Iterator[Finding]:
    """Outputs such as "as of 2021", "today's date is" or "my knowledge cutoff".

    What was true on the day a row was written is learned as true for ever.
    """
    if context.task.kind not in KINDS:
        return
    train = context.splits.train
    found = [(e, match) for e in train if (match := _DATED.search(e.output))]
    if not found:
        return
    first, match = found[0]
    start = max(0, match.start() - 20)
    yield Finding(
        "todays_date",
        "warning" if len(found) > MANY * len(train) else "note",
        len(found),
        sources(e for e, _ in found),
        f"{number(len(found), 'training output')} ({percent(len(found), len(train))}) "
        f"{'hangs' if len(found) == 1 else 'hang'} on the day of writing, as in "
        f"{shortened(first.output[start : match.end() + 30])!r} ({first.source}). A model goes on "
        "saying it when it is no longer true.",
        "Put the date into the prompt where the answer depends on it, or leave these rows out.",
    )
