"""How models are asked to judge."""

from __future__ import annotations

import re

from luthier.evaluation.judging import Duel, Preference

INSTRUCTION = (
    "You compare two answers to a question. Judge how correct, helpful and clear they are, and "
    "whether they do what is asked. The order of the answers means nothing, and a longer answer is "
    "not better for being longer. Reply with A if answer A is better, B if answer B is better, or "
    "C if they are equally good. Reply with that one letter and nothing else."
)
LETTERS: dict[str, Preference] = {"A": 1, "B": -1, "C": 0}

_MARKED = re.compile(r"\[\[\s*([ABC])\s*\]\]")
_ALONE = re.compile(r"\A\W*(?:answer\s+)?([ABC])\b", re.IGNORECASE)


def question(duel: Duel) -> str:
    """The question with both answers, as the judge reads them."""
    return (
        f"[Question]\n{duel.question.strip()}\n\n[Answer A]\n{duel.first.strip()}\n\n"
        f"[Answer B]\n{duel.second.strip()}\n\n[Which answer is better: A, B or C?]"
    )


def read_reply(text: str) -> Preference | None:
    """What a reply says: a letter in double brackets (the last), else a letter at its start; None
    where it says neither."""
    marked = _MARKED.findall(text)
    if marked:
        return LETTERS[marked[-1]]
    alone = _ALONE.match(text.strip())
    # "a" opens many a sentence
    if alone is None or (len(text.split()) > 3 and not alone[1].isupper()):
        return None
    return LETTERS[alone[1].upper()]
