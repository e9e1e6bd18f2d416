"""Passports and driving licences: too many forms for a pattern, so their name must stand near."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector

_NUMBER = re.compile(
    r"(?<![\w-])(?=[A-Za-z-]{0,6}\d)[A-Za-z0-9][A-Za-z0-9-]{3,17}[A-Za-z0-9](?![\w-])"
)
_KINDS = (
    ("PASSPORT", re.compile(r"passport|reisepass|passeport|pasaporte|passaporto|paspoort")),
    (
        "DRIVER_LICENSE",
        re.compile(
            r"driv(?:er|ing)['’]?s?['’]? (?:licen[cs]e|permit)|\bdl (?:no|number|#)|f[üu]hrerschein"
        ),
    ),
)
#: Characters behind the document's name within which its number is looked for.
_REACH = 40


@detector(
    "documents",
    Kind("PASSPORT", "passport number", "identifier"),
    Kind("DRIVER_LICENSE", "driving licence number", "identifier"),
    digits=True,
)
def documents(document: Document) -> Iterator[Span]:
    """The first number of 5 to 19 letters and digits soon behind the document's name."""
    for kind, name in _KINDS:
        for near in name.finditer(document.lower):
            reach = near.end() + len(document.after(near.end(), _REACH))
            match = _NUMBER.search(document.text, near.end(), reach + 19)
            if not match or match.start() > reach:
                continue
            digits = sum(c.isdigit() for c in match[0])
            # not an hour, a year or "90-day"
            if digits < 5 or any(len(part) > 3 and part.isalpha() for part in match[0].split("-")):
                continue
            yield document.span(match.start(), match.end(), kind, 0.9, f"number behind {near[0]!r}")
