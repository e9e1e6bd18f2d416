"""E-mail addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector

_AT = re.compile(r"@(?=[^\W_])")
_LOCAL_BACKWARDS = re.compile(r"[^\W_][\w.%&'*+~-]{0,63}")
_DOMAIN = re.compile(r"(?>[^\W_][\w-]{0,62}(?:\.[^\W_][\w-]{0,62}){1,8})")
#: Domains that RFC 2606 and RFC 6761 keep for examples: nobody's address.
RESERVED = re.compile(
    r"(?:^|[.@])(?:example\.(?:com|org|net|edu)|(?:example|invalid|test|localhost))$"
)

_STANDS_FOR = re.compile(
    r"(?:your|my|user|the|some|an?)?[._-]?(?:e?mail|gmail|name|username|address|account|id|example|"
    r"user|foo|bar|test|xyz|abc|sample|someone|somebody|recipient|sender)"
    r"(?:[._-]?(?:address|name|id|here|account))?\d{0,3}"
    r"|my[._-]gmail[._-]address|(?:john|jane)[._-]?doe|git"
)


@detector("email", Kind("EMAIL", "e-mail address", "identifier", "e-mail addresses"))
def emails(document: Document) -> Iterator[Span]:
    """name@host.tld (RFC 5322's unquoted form, RFC 1035's label lengths)."""
    text = document.text
    for match in _AT.finditer(text):
        at = match.start()
        local = _LOCAL_BACKWARDS.match(text[max(0, at - 64) : at][::-1])
        if not local:
            continue
        name = local[0][::-1].lstrip(".%&'*+~-_")
        if not name or ".." in name:
            continue
        domain = _DOMAIN.match(text, at + 1)
        if not domain:
            continue
        host = domain[0].rstrip("-_")
        top = host.rpartition(".")[2]
        if not (2 <= len(top) <= 24 and top.replace("-", "").isalpha()):
            continue
        reserved = RESERVED.search(host.lower()) or _STANDS_FOR.fullmatch(name.lower())
        yield document.span(
            at - len(name),
            at + 1 + len(host),
            "EMAIL",
            0.6 if reserved else 0.95,
            "an address for examples" if reserved else "form of an e-mail address",
        )
