"""How a text is written, in numbers that do not depend on what it is about."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_WRAPPED = re.compile(r"(?<=[^\n])[ \t]*\n(?=[^\n])")  # the end of a line that goes on
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_LIST = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s", re.MULTILINE)
_CODE = re.compile(r"[`{}<>\\|#=_@~^\[\]$]")
_OWN = re.compile(r"\b(?:i|me|my|you|your|we|us|our)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Trait:
    """One number of a text.

    Attributes:
        name: what people call it.
        step: a difference too small to matter, in the units of the number; no scale is smaller.
    """

    name: str
    step: float


#: What `measure` returns, in order.
TRAITS: tuple[Trait, ...] = (
    Trait("length", 0.4),  # natural logarithm of the words
    Trait("words to a sentence", 0.4),  # natural logarithm
    Trait("paragraphs", 0.35),  # natural logarithm
    Trait("sentences that begin with a capital", 0.25),
    Trait("sentences that end with a mark", 0.25),
    Trait("capitals among letters", 0.05),
    Trait("commas to a word", 0.05),
    Trait("questions and exclamations among sentences", 0.25),
    Trait("list lines", 0.2),
    Trait("signs of code or markup", 0.03),
    Trait("digits", 0.1),
    Trait("letters to a word", 0.8),
    Trait("I, you and we", 0.05),
)

#: Characters that are read of a text.
_READ = 20_000


def measure(text: str) -> tuple[float, ...]:
    """The traits of one text, as `TRAITS` lists them; shares lie in 0 to 1."""
    text = text[:_READ].strip()
    words = text.split()
    count = max(1, len(words))
    sentences = [
        s for part in _SENTENCE.findall(_WRAPPED.sub(" ", text)) if (s := part.strip())
    ] or [text]
    letters = [c for c in text if c.isalpha()]
    size = max(1, len(text))
    firsts = [next(filter(str.isalpha, sentence), "") for sentence in sentences]
    cased = [letter for letter in firsts if letter != letter.swapcase()]
    capital = sum(letter.isupper() for letter in cased)
    paragraphs = len([part for part in re.split(r"\n\s*\n", text) if part.strip()])
    return (
        math.log(count),
        math.log(max(1.0, count / len(sentences))),
        math.log(max(1, paragraphs)),
        capital / len(cased) if cased else 1.0,
        sum(s[-1:] in (".", "!", "?") for s in sentences) / len(sentences),
        sum(c.isupper() for c in letters) / max(1, len(letters)),
        text.count(",") / count,
        sum(s[-1:] in ("!", "?") for s in sentences) / len(sentences),
        min(1.0, len(_LIST.findall(text)) / max(1, text.count("\n") + 1)),
        len(_CODE.findall(text)) / size,
        sum(c.isdigit() for c in text) / size,
        len(letters) / count,
        len(_OWN.findall(text)) / count,
    )


def measure_all(texts: Sequence[str]) -> Array:
    """The traits of texts, shape (len(texts), len(TRAITS))."""
    import numpy as np

    return np.array([measure(text) for text in texts], dtype=float).reshape(-1, len(TRAITS))


def shown(trait: int, value: float) -> str:
    """A trait's value for people."""
    if trait in (0, 1, 2):
        return f"{math.exp(value):,.0f}"
    if trait == 11:
        return f"{value:.1f}"
    return f"{value:.0%}"
