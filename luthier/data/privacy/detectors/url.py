"""Web addresses, and credentials inside them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.random_looks import placeholder
from luthier.data.privacy.spans import Document, Kind, Span, detector

_SCHEME_BACKWARDS = re.compile(r"[a-zA-Z0-9+.-]{1,20}")
_REST = re.compile(r"[^\s<>\"'`{}|\\^\x00]{1,2048}+")
_WWW = re.compile(
    r"(?<![\w./@-])www\.(?>[^\W_][\w-]{0,62}(?:\.[^\W_][\w-]{0,62}){1,6})(?:/[^\s<>\"'`\x00]{0,1024}+)?"
)
_CREDENTIALS = re.compile(r"([^\s/@:?#]{0,128}):([^\s/@]{1,256})@[\w.\[-]")


@detector(
    "url",
    Kind("URL", "web address", "detail", "web addresses"),
    Kind(
        "CONNECTION_STRING",
        "address with a password in it",
        "secret",
        "addresses with a password in them",
    ),
)
def urls(document: Document) -> Iterator[Span]:
    """scheme://host/path; and scheme://user:password@host, whatever the scheme."""
    text = document.text
    at = text.find("://")
    while at >= 0:
        rest = _REST.match(text, at + 3)
        scheme = _SCHEME_BACKWARDS.match(text[max(0, at - 20) : at][::-1])
        if not rest or not scheme:
            at = text.find("://", at + 3)
            continue
        start = at - len(scheme[0])
        while start < at and not text[start].isalpha():
            start += 1
        end = at + 3 + len(rest[0].rstrip(".,;:!?)]*_"))
        at = text.find("://", max(end, at + 3))
        if end - start < 8:
            continue
        credentials = _CREDENTIALS.match(rest[0])
        if credentials and not _harmless(credentials):
            yield document.span(
                start, end, "CONNECTION_STRING", 0.97, "user and password before the host's name"
            )
        else:
            yield document.span(start, end, "URL", 0.9, "scheme and host")
    if "www." in text:
        for match in _WWW.finditer(text):
            end = match.start() + len(match[0].rstrip(".,;:!?)]*_"))
            yield document.span(match.start(), end, "URL", 0.8, "begins with www.")


def _harmless(credentials: re.Match[str]) -> bool:
    """Whether the password is a word that manuals use in its place."""
    name, password = credentials[1].lower(), credentials[2].lower()
    return placeholder(password) or password in (name, "pass", "pw", "pwd", "user", "admin", "root")
