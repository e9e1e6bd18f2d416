"""Tone and format of answers beside the outputs that the user wants.

Every trait is one that a reader can check by looking at an answer: it has a list or not, says "you"
or not. What is counted is in how many answers, and in how many of the wanted outputs and of the
references. Traits that rest on words are of English, and are left out where the references are not.

Two or three wanted outputs show a manner and prove no rate. So an arm is said to write unlike them
only where they all agree (all have a trait, or none has) and most answers do otherwise: the
interval of the answers' share must lie on the other side of one half. Numbers (words to a sentence)
must lie outside the range of the wanted ones by half as much again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from luthier.evaluation.statistics import wilson_interval

#: Fewer wanted outputs than this show no manner.
LEAST = 2
#: How far a number may lie outside the range of the wanted ones.
_ROOM = 1.5
#: References that are read to tell the language.
_READ = 50

_LIST = re.compile(r"^\s*(?:[-*•–]|\d{1,3}[.)])\s+\S", re.MULTILINE)
_MARKDOWN = re.compile(
    r"^#{1,6}\s+\S|\*\*[^*\s][^*\n]*\*\*|__[^_\s][^_\n]*__|^\s*```|`[^`\n]+`|\[[^\]\n]+\]\([^)\s]+\)"
    r"|^\s*\|.*\|\s*$",
    re.MULTILINE,
)
_CLOSING = "\"'”’»)]}*_` \t\n"
_MARKS = (".", "!", "?", "…", "。", "！", "？")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|[。！？]|\n+")
_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\U0001f1e6-\U0001f1ff]")

# "I" and "us" as they are written: i is a variable, and US a country
_ITSELF = re.compile(r"\bI\b|\b(?:[Mm]e|[Mm]y|[Mm]ine|[Ww]e|us|[Oo]urs?|[Mm]yself|[Oo]urselves)\b")
_READER = re.compile(r"\b(?:you|your|yours|yourself)\b", re.IGNORECASE)
_GREETING = re.compile(
    r"\A\W*(?:hi|hello|hey|dear|greetings|good (?:morning|afternoon|evening|day))\b"
    r"|\b(?:(?:best|kind|warm) (?:regards|wishes)|regards|sincerely|yours truly|cheers|"
    r"(?:i )?hope (?:this|that) helps)\b[^.!?]{0,40}[.!]?\s*\Z",
    re.IGNORECASE,
)
_PREAMBLE = re.compile(
    r"\A\W*(?:sure|certainly|of course|absolutely|gladly|great question|good question|okay|"
    r"here(?:'s|’s| is| are) (?:the|a|an|your|my|some)|as an ai)\b",
    re.IGNORECASE,
)
# may, but not May
_HEDGE = re.compile(
    r"\bmay\b|\b(?i:might|perhaps|maybe|possibly|presumably|probably|likely|apparently|"
    r"seems?|appears? to|not sure|i (?:think|believe|guess|suppose)|in my opinion)\b"
)
_CONTRACTION = re.compile(
    r"\b\w+n['’]t\b|\b\w+['’](?:ll|re|ve|m|d)\b|\b(?:it|that|there|here|he|she|what|who|let)['’]s\b",
    re.IGNORECASE,
)

Trait = Callable[[str], bool]


def _starts_with_a_capital(text: str) -> bool:
    first = next(filter(str.isalpha, text), "")
    # a script without capitals has nothing to miss
    return bool(first) and (first.isupper() or first == first.swapcase())


def _is_json(text: str) -> bool:
    stripped = text.strip()
    if stripped[:1] not in ("{", "["):
        return False
    try:
        json.loads(stripped)
    except (ValueError, RecursionError):
        return False
    return True


def _found(pattern: re.Pattern[str]) -> Trait:
    return lambda text: pattern.search(text) is not None


#: What can be seen of any text: (key, what people call it, how it is told).
FORMAT: tuple[tuple[str, str, Trait], ...] = (
    ("capital", "begins with a capital", _starts_with_a_capital),
    ("mark", "ends with a mark (. ! ?)", lambda text: text.rstrip(_CLOSING).endswith(_MARKS)),
    ("paragraphs", "has several paragraphs", lambda text: "\n\n" in text.strip()),
    ("list", "has a list", lambda text: len(_LIST.findall(text)) > 1),
    ("markdown", "uses Markdown", _found(_MARKDOWN)),
    ("json", "is JSON", _is_json),
    ("exclaims", "exclaims (!)", lambda text: "!" in text),
    ("asks", "asks (?)", lambda text: "?" in text),
    ("emoji", "has emoji", _found(_EMOJI)),
)
#: What is told by English words.
TONE: tuple[tuple[str, str, Trait], ...] = (
    ("itself", "speaks of itself (I, we)", _found(_ITSELF)),
    ("reader", "speaks to the reader (you)", _found(_READER)),
    ("greeting", "greets or signs off", _found(_GREETING)),
    ("preamble", "opens with a preamble (Sure, Here is)", _found(_PREAMBLE)),
    ("hedges", "hedges (may, perhaps, I think)", _found(_HEDGE)),
    ("contractions", "uses contractions (don't, it's)", _found(_CONTRACTION)),
)
#: Numbers of a text.
NUMBERS: tuple[tuple[str, str], ...] = (
    ("sentences", "sentences"),
    ("sentence_words", "words to a sentence"),
)
#: What people call each of them.
NAMES: dict[str, str] = {
    **{key: said for key, said, _ in (*FORMAT, *TONE)},
    **dict(NUMBERS),
}


def manner(
    predictions: Sequence[str], references: Sequence[str], wanted: Sequence[str]
) -> dict[str, Any] | None:
    """How answers are written beside wanted outputs; None without any of these.

    Args:
        predictions: the answers; empty ones have no manner and are left out.
        references: the right answers.
        wanted: outputs as the user would like them.

    Returns:
        `wanted`: how many there are; `english`: whether words were looked at; `traits`, for each
        key of FORMAT and TONE `{"answers", "references": {"share", "interval", "of"} or None,
        "wanted": {"count", "of"}, "unlike"}`; `numbers`, for each key of NUMBERS the medians
        `{"answers", "references", "wanted", "unlike"}`.
    """
    examples = [text for text in wanted if text.strip()]
    if not examples:
        return None
    said = [text for text in predictions if text.strip()]
    right = [text for text in references if text.strip()]
    english = _english([*examples, *right[:_READ]])
    traits = {
        key: _trait(holds, said, right, examples)
        for key, _, holds in (*FORMAT, *(TONE if english else ()))
    }
    return {
        "wanted": len(examples),
        "english": english,
        "traits": traits,
        "numbers": {key: _number(key, said, right, examples) for key, _ in NUMBERS},
    }


def sentences(text: str) -> list[str]:
    """The sentences of a text: what stands between . ! ? and a space, or on a line of its own."""
    return [part for part in _SENTENCE.split(text.strip()) if any(map(str.isalnum, part))]


def _trait(
    holds: Trait, said: Sequence[str], right: Sequence[str], wanted: Sequence[str]
) -> dict[str, Any]:
    answers, count = _share(holds, said), sum(map(holds, wanted))
    unlike = False
    if answers is not None and len(wanted) >= LEAST:
        low, high = answers["interval"]
        unlike = (count == len(wanted) and high < 0.5) or (count == 0 and low > 0.5)
    return {
        "answers": answers,
        "references": _share(holds, right),
        "wanted": {"count": count, "of": len(wanted)},
        "unlike": unlike,
    }


def _share(holds: Trait, texts: Sequence[str]) -> dict[str, Any] | None:
    if not texts:
        return None
    count = sum(map(holds, texts))
    interval = list(wilson_interval(count, len(texts)))
    return {"share": count / len(texts), "interval": interval, "of": len(texts)}


def _number(
    key: str, said: Sequence[str], right: Sequence[str], wanted: Sequence[str]
) -> dict[str, Any]:
    answers, references, asked = ([_measured(key, t) for t in x] for x in (said, right, wanted))
    middle = float(np.median(answers)) if answers else None
    unlike = (
        middle is not None
        and len(asked) >= LEAST
        and not min(asked) / _ROOM <= middle <= max(asked) * _ROOM
    )
    return {
        "answers": middle,
        "references": float(np.median(references)) if references else None,
        "wanted": float(np.median(asked)),
        "unlike": unlike,
    }


def _measured(key: str, text: str) -> float:
    from luthier.data.words import folded_words

    parts = sentences(text)
    if key == "sentences":
        return float(len(parts))
    words = sum(len(folded_words(part).split()) for part in parts)
    return words / len(parts) if parts else 0.0


def _english(texts: Sequence[str]) -> bool:
    from luthier.data.lints.languages import identify

    return identify([" ".join(texts)])[0] == "en"
