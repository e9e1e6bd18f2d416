"""Passwords and keys that are given a name: `password = ...`, `"api_key": "..."`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.random_looks import entropy, placeholder, random_looking
from luthier.data.privacy.spans import Document, Kind, Span, detector

_NAME = re.compile(
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|api[_ -]?key|access[_ -]?key|"
    r"private[_ -]?key|auth[_ -]?key|encryption[_ -]?key|signing[_ -]?key|"
    r"credentials?|bearer|authorization)"
)
_GIVEN = re.compile(
    r"[\w-]{0,24}[\"'`]?\s{0,3}(?:=>|:=|==?|:|\bis\b:?)\s{0,3}(?:basic |bearer )?([\"'`]?)"
    r"([^\s\"'`,;<>\x00]{6,512}+)"
)
_SHORTEST = 6
_BEARER = re.compile(r"\s{1,3}()([A-Za-z0-9._~+/=-]{20,512}+)")
_CALL = re.compile(r"[A-Za-z_][\w.]*\(|[A-Za-z_]\w*\[")
_ATTRIBUTE = re.compile(r"[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+$")


@detector(
    "passwords",
    Kind("PASSWORD", "password", "secret"),
    Kind("SECRET", "secret value", "secret"),
)
def passwords(document: Document) -> Iterator[Span]:
    """A value that looks made up or generated, given to a name that says what it is.

    A string of 20 random characters or more is a SECRET whatever is around it. A shorter one must
    mix letters with digits or signs as passwords do, and stand behind a word for a password.
    Names, calls and placeholders (`password = input()`, `token: ${TOKEN}`) are left alone.
    """
    given = _given(document)
    for number, (name, match) in enumerate(given):
        start, end = match.start(2), match.end(2)
        if number + 1 < len(given):
            # "token=a&password=b": the second name is no part of the first value
            end = max(start, min(end, given[number + 1][0].start()))
        operator = document.text[name.end() : start]
        quoted = bool(match[1])
        value = document.text[start:end]
        trimmed = value if quoted else value.rstrip(".,;:?&)]}\\")
        if trimmed.count("(") == trimmed.count(")"):
            value = trimmed
        end = start + len(value)
        if "==" in operator and not quoted:
            continue  # a comparison with what has a name
        if len(value) < _SHORTEST or "://" in value or placeholder(value):
            continue
        if _CALL.match(value) or _ATTRIBUTE.match(value):
            continue
        if len(value) >= 20 and random_looking(value):
            yield document.span(start, end, "SECRET", 0.85, f"random characters behind {name[0]!r}")
        elif name[0].startswith(("pass", "pwd")) and _made_up(value, quoted):
            sure = 0.75 if quoted or ":" in operator or "=" in operator else 0.6
            why = f"letters with digits or signs behind {name[0]!r}"
            yield document.span(start, end, "PASSWORD", sure, why)


def _given(document: Document) -> list[tuple[re.Match[str], re.Match[str]]]:
    """Names that are given a value, each with the match that holds the value."""
    lower = document.lower
    given = []
    for name in _NAME.finditer(lower):
        match = _GIVEN.match(lower, name.end())
        if not match and name[0] in ("bearer", "authorization"):
            match = _BEARER.match(lower, name.end())
        if match:
            given.append((name, match))
    return given


def _made_up(value: str, quoted: bool) -> bool:
    """Whether a short value looks like a password: letters, and digits or signs among them; and
    like no expression, where it stands without quotes."""
    letters = any(c.isalpha() for c in value)
    digits = any(c.isdigit() for c in value)
    signs = any(not c.isalnum() and c not in "_-./\\()[]{}:" for c in value)
    return (
        letters and (digits or signs) and len(value) <= 64 and entropy(value) >= 2.2
        and not re.fullmatch(r"[A-Za-z]+(?:[-_./]?\d{0,2}|!+)", value)
        and (quoted or not re.match(r"[a-zA-Z_]\w*(?:[=<>+*]|!=)", value))
    )  # fmt: skip
