"""Dates of birth: a date soon behind a word for being born."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.detectors.dates import DATE, WRITTEN_DATE
from luthier.data.privacy.spans import Document, Kind, Span, detector

_BIRTH = re.compile(
    r"\bborn\b|\bbirth(?:day|date)?\b|\bd\.?o\.?b\b|\bgeboren|\bgeburts|\bnée?\b|\bnaiss|"
    r"\bnacid|\bnacimiento|\bnat[oa] (?:il|a)\b|\bfødt|\bfödd|\burodz"
)
#: Nobody who was born then lives.
_LONG_AGO = re.compile(r"(?<!\d)1[0-8]\d\d(?!\d)")
#: Characters between the word and the date.
_REACH = 45


@detector(
    "birth", Kind("DATE_OF_BIRTH", "date of birth", "identifier", "dates of birth"), digits=True
)
def dates_of_birth(document: Document) -> Iterator[Span]:
    """A whole date within 45 characters behind "born", "birth", "DOB", "geboren", ..."""
    lower = document.lower
    for near in _BIRTH.finditer(lower):
        reach = near.end() + len(document.after(near.end(), _REACH))
        for pattern in (DATE, WRITTEN_DATE):
            match = pattern.search(lower, near.end(), min(len(lower), reach + 24))
            if match and match.start() <= reach:
                old = _LONG_AGO.search(match[0])
                yield document.span(
                    match.start(),
                    match.end(),
                    "DATE_OF_BIRTH",
                    0.55 if old else 0.85,
                    f"behind {near[0]!r}" + (", long ago" if old else ""),
                )
                break
