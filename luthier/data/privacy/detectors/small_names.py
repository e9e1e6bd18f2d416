"""Full names in small letters, as people write them in chats: "anna svensson"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from luthier.data.privacy.detectors.person import PERSON
from luthier.data.privacy.spans import Document, Span, detector
from luthier.data.privacy.word_lists import family_names, given_names

_PAIR = re.compile(r"(?<![\w@./#&-])([^\W\d_]{3,24}+)(?= ([^\W\d_]{3,24}+)(?![\w@/-]))")
#: How family names end and hardly any other word does.
_ENDING = re.compile(
    r".{3,}(?:ovi[cćč]|evi[cćč]|[jklnr]i[ćč]|sson|sdóttir|owski|owska|ewski|ewska|ński|ńska|czyk|"
    r"wicz|enko|escu|opoulos|oğlu|shvili|ukov|akov|ankov|inov|onov|enov|anov|arov|erov|kova|nova|"
    r"rova|ández|íguez|ínez|ález)$"
)


@cache
def _small() -> tuple[frozenset[str], frozenset[str]]:
    """Given names and family names that are no ordinary words, in small letters."""
    return (
        frozenset(name.lower() for name in given_names().sure),
        frozenset(name.lower() for name in family_names().sure),
    )


@detector("small_names", PERSON)
def small_names(document: Document) -> Iterator[Span]:
    """A given name and a family name beside it; one alone is too often a word."""
    given, family = _small()
    for match in _PAIR.finditer(document.text):
        first, second = match[1], match[2]
        if first not in given:
            continue
        if second in family or (second.islower() and _ENDING.match(second)):
            yield document.span(
                match.start(),
                match.end(2),
                "PERSON",
                0.65,
                "given and family name in small letters",
            )
