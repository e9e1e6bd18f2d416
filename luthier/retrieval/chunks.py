"""From a document to passages: below headings, at ends of sentences, with offsets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from luthier.errors import InputError
from luthier.retrieval.documents import Document

#: What ends in a full stop and is no end of a sentence.
_SHORT_WORDS = """
mr mrs ms dr prof st jr sr vs etc e.g i.e cf al fig no vol pp ca approx inc ltd co corp dept gen col
capt lt sgt rev hon pres gov sen rep jan feb mar apr jun jul aug sep sept oct nov dec u.s u.k u.n
a.m p.m b.c a.d
"""
_SHORT = frozenset(_SHORT_WORDS.split())
_END = re.compile(r"[.!?。！？]+[\"'”’)\]»]*(?=\s)|[。！？]|\n\s*\n")
_BEFORE = re.compile(r"([\w.]+)$")


@dataclass(frozen=True)
class Chunking:
    """How documents are cut.

    Attributes:
        size: characters of a passage, at most, unless a single sentence has no place to be cut.
        overlap: characters of whole sentences that a passage repeats of the one before, at most.
    """

    size: int = 1000
    overlap: int = 150

    def __post_init__(self) -> None:
        if self.size < 100:
            raise InputError(f"Passages of {self.size} characters are too short (at least 100).")
        if not 0 <= self.overlap <= self.size // 2:
            raise InputError(
                f"An overlap of {self.overlap} characters is more than half of a passage of "
                f"{self.size}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Chunk:
    """A passage of a document: its text is `document.text[start:end]`."""

    start: int
    end: int
    heading: tuple[str, ...]


def chunks_of(document: Document, chunking: Chunking) -> Iterator[Chunk]:
    """The passages of a document, in order. Every character that is no white space is in one.

    A passage never crosses a heading, but one with nothing below it except smaller headings, which
    begins the passage of the first of these. Within a section, sentences are put together while
    they fit; a paragraph that would not fit whole begins a passage of its own where that wastes
    little.
    """
    text = document.text
    starts = [0, *(at for at, _, _ in document.headings), len(text)]
    path: list[tuple[int, str]] = []
    bare: int | None = None
    for number, (begin, end) in enumerate(pairwise(starts)):
        if number:
            _, level, said = document.headings[number - 1]
            path = [(depth, name) for depth, name in path if depth < level] + [(level, said)]
            below = document.headings[number : number + 1]
            if below and below[0][1] > level and _is_bare(text[begin:end], said):
                bare = begin if bare is None else bare
                continue
        begin, bare = begin if bare is None else bare, None
        heading = tuple(name for _, name in path)
        for start, stop in _packed(text, _pieces(text, begin, end, chunking.size), chunking):
            yield Chunk(start, stop, heading)


def _is_bare(section: str, heading: str) -> bool:
    """Whether a section holds its heading and nothing else."""
    written = section.strip().rstrip("=-").lstrip("#").strip()
    return written == heading.strip() or not written


def sentences(text: str, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """(start, end) of the sentences of a text, white space at both sides left out."""
    end = len(text) if end is None else end
    start = begin
    for mark in _END.finditer(text, begin, end):
        if mark.start() < start or not _ends(text, start, mark):
            continue
        if piece := _stripped(text, start, mark.end()):
            yield piece
        start = mark.end()
    if piece := _stripped(text, start, end):
        yield piece


def _ends(text: str, start: int, mark: re.Match[str]) -> bool:
    """Whether this is the end of a sentence and not of an abbreviation."""
    if not mark.group().startswith("."):
        return True
    before = _BEFORE.search(text, start, mark.start())
    word = before.group(1).lower() if before else ""
    if word in _SHORT or (len(word) == 1 and word.isalpha()):
        return False
    after = text[mark.end() : mark.end() + 40].lstrip()
    return not after[:1].islower()


def _pieces(text: str, begin: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Sentences of a section; those longer than a passage are cut at white space."""
    for start, stop in sentences(text, begin, end):
        while stop - start > size:
            at = max(text.rfind(" ", start, start + size), text.rfind("\n", start, start + size))
            at = at if at > start + size // 2 else start + size
            if piece := _stripped(text, start, at):
                yield piece
            start = at
        if piece := _stripped(text, start, stop):
            yield piece


def _packed(
    text: str, pieces: Iterator[tuple[int, int]], chunking: Chunking
) -> Iterator[tuple[int, int]]:
    held: list[tuple[int, int]] = []
    for piece in pieces:
        if held and piece[1] - held[0][0] > chunking.size:
            yield held[0][0], held[-1][1]
            kept: list[tuple[int, int]] = []
            for old in reversed(held[1:]):  # never all of the passage before
                if held[-1][1] - old[0] > chunking.overlap:
                    break
                if piece[1] - old[0] > chunking.size:
                    break
                kept.insert(0, old)
            held = kept
        held.append(piece)
    if held:
        yield held[0][0], held[-1][1]


def _stripped(text: str, start: int, end: int) -> tuple[int, int] | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if end > start else None
