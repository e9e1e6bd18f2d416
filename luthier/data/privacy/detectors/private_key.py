"""Private keys in PEM form (RFC 7468)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector

_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_BODY = re.compile(r"(?:\\[nr]|[\sA-Za-z0-9+/=:,.()-]){0,16384}+")
#: Characters of key material below which there is none ("BEGIN PRIVATE KEY ... END").
_LEAST = 48


@detector("private_key", Kind("PRIVATE_KEY", "private key", "secret"))
def private_keys(document: Document) -> Iterator[Span]:
    """From BEGIN to END, or as far as key material goes where the end was cut off."""
    text = document.text
    begin = _BEGIN.search(text)
    while begin:
        body = _BODY.match(text, begin.end())
        end = body.end() if body else begin.end()
        closing = _END.search(text, begin.end(), end + 64)
        if closing:
            end = closing.end()
        material = text[begin.end() : closing.start() if closing else end]
        plain = sum(c.isalnum() for c in material)
        if plain >= _LEAST and len(set(material)) > 16:
            yield document.span(
                begin.start(), end, "PRIVATE_KEY", 0.99, "PEM block with key material"
            )
        begin = _BEGIN.search(text, max(end, begin.end()))
