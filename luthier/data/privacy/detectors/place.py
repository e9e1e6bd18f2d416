"""Countries, states and large cities; nationalities, religions and political groups."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector
from luthier.data.privacy.word_lists import (
    given_names,
    nationalities,
    ordinary,
    places,
    runs,
    titled,
)

_MOST_WORDS = 4
#: Where somebody lives or goes: a place follows, whether or not it is in a list.
_WHERE = re.compile(
    r"\b(?:(?:grew|grow|growing|brought) up in|born in|resid(?:e|es|ed|ing) in|"
    r"liv(?:e|es|ed|ing) in|based in|headquartered in|settled in|hometown(?: is|:)?|native of|"
    r"mov(?:e|es|ed|ing) (?:here |back |away )?(?:from|to)|returned to|emigrated (?:from|to)|"
    r"fl(?:y|ies|ew|ying) to|travel(?:l?ed|l?ing|s)? to|flights? (?:from|to)|trips? to|"
    r"(?:vacation|holidays?|weather) in|arriv(?:e|es|ed|ing) (?:in|from)|"
    r"(?:city|town|village|suburb|outskirts) of) $"
)


@detector(
    "place",
    Kind("LOCATION", "place", "detail"),
    Kind(
        "NATIONALITY",
        "nationality, religion or party",
        "detail",
        "nationalities, religions or parties",
    ),
)
def places_and_peoples(document: Document) -> Iterator[Span]:
    """Capitalised words that are in the lists; the longest name that fits."""
    known, peoples, names = places(), nationalities(), given_names()
    for run in runs(document):
        start, _, first = run.words[0]
        unknown = titled(first) not in ordinary() and first not in peoples
        if unknown and _WHERE.search(document.before(start, 40)):
            end = run.words[-1][1]
            yield document.span(start, end, "LOCATION", 0.6, "behind where people live or go")
        index = 0
        while index < len(run.words):
            for count in range(min(_MOST_WORDS, len(run.words) - index), 0, -1):
                piece = run.words[index : index + count]
                name = " ".join(titled(word) for _, _, word in piece)
                start, end = piece[0][0], piece[-1][1]
                if name in known or (count == 1 and piece[0][2] in known):
                    doubtful = name in names.doubtful
                    yield document.span(
                        start, end, "LOCATION", 0.55 if doubtful else 0.7, "in the list of places"
                    )
                elif count == 1 and name in peoples:
                    yield document.span(start, end, "NATIONALITY", 0.65, "in the list of peoples")
                else:
                    continue
                index += count
                break
            else:
                index += 1
