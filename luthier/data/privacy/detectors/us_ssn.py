"""United States social security numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector

_FORM = re.compile(r"(?<![\w.-])(\d{3})([- ])(\d{2})\2(\d{4})(?![\w]|-\d)")
_BARE = re.compile(r"(?<![\w.-])\d{9}(?![\w-])")
_CONTEXT = re.compile(r"\bssns?\b|social[ -]security|\bitin\b|taxpayer")
#: Numbers that were printed in advertisements.
_ADVERTISED = frozenset({"078051120", "219099999", "123456789", "987654321"})


@detector("us_ssn", Kind("US_SSN", "US social security number", "identifier"), digits=True)
def us_ssn(document: Document) -> Iterator[Span]:
    """AAA-GG-SSSS outside the ranges that were never issued; other forms behind "SSN"."""
    for match in _FORM.finditer(document.text):
        area, group, serial = match[1], match[3], match[4]
        issued = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
        context = _CONTEXT.search(document.before(match.start(), 60))
        if area + group + serial in _ADVERTISED:
            yield document.span(match.start(), match.end(), "US_SSN", 0.5, "a well-known example")
        elif context:
            yield document.span(
                match.start(), match.end(), "US_SSN", 0.95, f"3-2-4 digits behind {context[0]!r}"
            )
        elif issued and match[2] == "-":
            yield document.span(match.start(), match.end(), "US_SSN", 0.8, "3-2-4, an issued area")
    if any(word in document.lower for word in ("ssn", "social", "itin", "taxpayer")):
        for match in _BARE.finditer(document.text):
            if match[0] not in _ADVERTISED and _CONTEXT.search(document.before(match.start(), 40)):
                yield document.span(
                    match.start(), match.end(), "US_SSN", 0.8, "nine digits behind its name"
                )
