"""What a detector is given, and what it says."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

from luthier.registry import Registry

#: Stands between texts that are searched together. No pattern may match it.
BORDER = "\0"

#: What a kind of span is to a person who trains on it:
#: "secret" opens something; "identifier" points at one person or account; "person" is a name or
#: an address; "detail" is harmless alone (a place, a company, a date, an age).
Level = Literal["secret", "identifier", "person", "detail"]

T = TypeVar("T")
_FOLDED = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def words(text: str) -> frozenset[str]:
    """The words of a list, written in one string between spaces."""
    return frozenset(text.split())


@dataclass(frozen=True)
class Kind:
    """A kind of personal data or secret.

    Attributes:
        name: as in spans and on the command line, such as "EMAIL".
        noun: for messages, singular: "e-mail address".
        level: how it is to be taken; see `Level`.
        nouns: the plural, where it is not the noun with an s.
    """

    name: str
    noun: str
    level: Level
    nouns: str = ""

    def counted(self, count: int) -> str:
        """A count of it: "1 e-mail address", "3 e-mail addresses"."""
        return f"1 {self.noun}" if count == 1 else f"{count:,} {self.nouns or self.noun + 's'}"


@dataclass(frozen=True)
class Span:
    """A piece of personal data or a secret in a text.

    Attributes:
        start: where it begins, in characters.
        end: where it ends (the character behind it).
        type: the name of its kind.
        text: what stands there.
        confidence: 0 to 1. From 0.9 on a checksum or an unmistakable form says so, from 0.7 on a
            form in a fitting context, below that a form or a list of words alone.
        evidence: why, in a few words: "Luhn checksum, Visa prefix".
    """

    start: int
    end: int
    type: str
    text: str
    confidence: float
    evidence: str


class Document:
    """A text with what several detectors need of it, computed once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._kept: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[Document], T]) -> T:
        """What `make` makes of this document, made the first time it is asked for."""
        if name not in self._kept:
            self._kept[name] = make(self)
        made: T = self._kept[name]
        return made

    @cached_property
    def lower(self) -> str:
        """The text with the case of ASCII letters folded, so that places stay what they are."""
        folded = self.text.lower()
        # a few letters become two in lower case
        return folded if len(folded) == len(self.text) else self.text.translate(_FOLDED)

    def before(self, at: int, most: int = 40) -> str:
        """Up to `most` characters before a place, in lower case, of the same text."""
        piece = self.lower[max(0, at - most) : at]
        return piece[piece.rfind(BORDER) + 1 :]

    def after(self, at: int, most: int = 40) -> str:
        """Up to `most` characters from a place on, in lower case, of the same text."""
        piece = self.lower[at : at + most]
        border = piece.find(BORDER)
        return piece if border < 0 else piece[:border]

    def span(self, start: int, end: int, kind: str, confidence: float, evidence: str) -> Span:
        """A span of this text."""
        return Span(start, end, kind, self.text[start:end], confidence, evidence)


@dataclass(frozen=True)
class Detector:
    """A way of finding some kinds of spans.

    Attributes:
        kinds: what it finds.
        search: the spans in a document, in any order; they may overlap. Its time must grow with
            the length of the text and no faster.
        digits: whether all it finds holds digits, or stands within a hundred characters of some:
            it is then not given text that is further away from any.
    """

    kinds: tuple[Kind, ...]
    search: Callable[[Document], Iterable[Span]]
    digits: bool = False


DETECTORS: Registry[Detector] = Registry("detector", "luthier.data.privacy.detectors")


def detector(
    name: str, *kinds: Kind, digits: bool = False
) -> Callable[[Callable[[Document], Iterable[Span]]], Callable[[Document], Iterable[Span]]]:
    """Decorator: offer a search as a detector of these kinds."""

    def add(
        search: Callable[[Document], Iterable[Span]],
    ) -> Callable[[Document], Iterable[Span]]:
        DETECTORS.register(name)(Detector(kinds, search, digits))
        return search

    return add
