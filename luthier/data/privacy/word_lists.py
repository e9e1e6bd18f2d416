"""The lists of names and places, and runs of capitalised words to look up in them.

The lists are `words/*.txt`, written from general knowledge; no list holds everybody's name.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from luthier.data.privacy.spans import Document

_FOLDER = Path(__file__).parent / "words"
#: Every capital letter of the Latin, Greek and Cyrillic alphabets, for a character class.
CAPITAL = "A-Z" + "".join(
    c for c in map(chr, (*range(0xC0, 0x250), *range(0x370, 0x530))) if c.isupper()
)
_WORD = rf"[{CAPITAL}][^\W\d_]*+(?:['’-][^\W\d_]++)*+(?![\d_])"
_INITIAL = rf"[{CAPITAL}]\.(?!\w)"
_BETWEEN = (
    r"(?:de la|de los|de|da|di|do|dos|das|del|della|van der|van den|van de|van|von der|von|zu|"
    r"den|der|ter|bin|ibn|al|el|la|le|du|af|av|y|e|of|and|nad)"
)
_RUN = re.compile(
    rf"(?<![\w.@/#&-]){_WORD}(?: {{1,2}}(?:{_BETWEEN} )?(?:{_INITIAL}|{_WORD})){{0,7}}"
)
_PIECE = re.compile(rf"{_INITIAL}|{_WORD}|[^\W\d_]+")


@dataclass(frozen=True)
class Names:
    """Names as they are written.

    Attributes:
        sure: those that are hardly anything else.
        doubtful: those that are an ordinary word or a place as well.
    """

    sure: frozenset[str]
    doubtful: frozenset[str]

    def __contains__(self, word: str) -> bool:
        return word in self.sure or word in self.doubtful


@dataclass(frozen=True)
class Run:
    """Capitalised words beside one another.

    Attributes:
        words: (start, end, word) of each, the small ones between them ("van") included.
    """

    words: tuple[tuple[int, int, str], ...]


def _lines(name: str) -> list[str]:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@cache
def places() -> frozenset[str]:
    """Countries, states and large cities."""
    return frozenset(
        sys.intern(place) for line in _lines("places.txt") for place in line.split(";")
    )


@cache
def nationalities() -> frozenset[str]:
    """Adjectives of nations, religions and political groups."""
    return frozenset(word for line in _lines("nationalities.txt") for word in line.split())


@cache
def ordinary() -> frozenset[str]:
    """Words that may begin a sentence or be part of what is named after a person."""
    return frozenset(word for line in _lines("ordinary.txt") for word in line.split())


@cache
def given_names() -> Names:
    """Given names."""
    return _names("given_names.txt")


@cache
def family_names() -> Names:
    """Family names."""
    return _names("family_names.txt")


def _names(name: str) -> Names:
    words = [word for line in _lines(name) for word in line.split()]
    known = places() | nationalities()
    # in capitals, as the lists' first line says: an ordinary word as well
    doubtful = {titled(w) for w in words if w.isupper() and len(w) > 1}
    doubtful |= {w for w in words if w in known}
    return Names(frozenset({titled(w) for w in words} - doubtful), frozenset(doubtful))


def titled(word: str) -> str:
    """A word in capitals as a name is written; other words as they are."""
    return word.capitalize() if len(word) > 1 and word.isupper() else word


def runs(document: Document) -> tuple[Run, ...]:
    """The runs of capitalised words of a document, computed once."""
    return document.once("runs", _find_runs)


def _find_runs(document: Document) -> tuple[Run, ...]:
    return tuple(
        Run(
            tuple(
                (piece.start(), piece.end(), piece[0])
                for piece in _PIECE.finditer(document.text, match.start(), match.end())
            )
        )
        for match in _RUN.finditer(document.text)
    )
