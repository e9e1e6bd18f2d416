"""What retrieval gives back, and what anything that retrieves must be able to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, Protocol

#: "hybrid" adds up scores of words and vectors, "rrf" their reciprocal ranks (`fusion.py`).
Mode = Literal["hybrid", "rrf", "bm25", "vectors"]


@dataclass(frozen=True)
class Passage:
    """A piece of a document that was found.

    Attributes:
        document: id of the document, stable across updates: its path relative to what was indexed,
            or the id of the row it came from.
        start, end: offsets in characters into the document's text as it is kept in the index, so
            that `text` is exactly that span of it.
        text: the passage itself.
        score: how well it matches; what it means depends on how was searched, more is better.
        heading: the headings it stands under, the outermost first.
        source: where a person finds the document: a path or an address.
        metadata: what else is known of the document (title, date, columns of its row).
        suspicious: why it reads like an instruction to a model rather than like information; empty
            when it does not (`retrieval/hostile.py`).
    """

    document: str
    start: int
    end: int
    text: str
    score: float
    heading: tuple[str, ...] = ()
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    suspicious: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON: what `luthier index search --json` prints of it, and a little more."""
        return {
            "document": self.document,
            "start": self.start,
            "end": self.end,
            "text": self.text,
            "score": self.score,
            "heading": list(self.heading),
            "source": self.source,
        }


@dataclass(frozen=True)
class Scope:
    """Which documents may be found at all. It holds before anything is scored.

    Attributes:
        groups: the access groups of whoever asks. A document without labels is for everybody, one
            with labels for those in one of its groups. The empty set sees open documents only.
        on: the day on which a document must be valid (`valid_from` <= day <= `valid_to`); None for
            today.
        where: columns of metadata and the value each must have.
        quarantine: leave out passages that read like instructions to a model.
    """

    groups: frozenset[str] = frozenset()
    on: date | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    quarantine: bool = False


#: What is for everybody, today.
OPEN = Scope()


class Retriever(Protocol):
    """Anything that finds passages."""

    def search(
        self,
        question: str,
        k: int = 5,
        *,
        mode: Mode = "hybrid",
        scope: Scope = OPEN,
        rerank: bool = False,
    ) -> list[Passage]:
        """The best `k` passages, best first."""

    def search_many(
        self,
        questions: Sequence[str],
        k: int = 5,
        *,
        mode: Mode = "hybrid",
        scope: Scope = OPEN,
        rerank: bool = False,
    ) -> list[list[Passage]]:
        """The same for many questions at once, in their order."""

    def text_of(self, document: str, *, scope: Scope = OPEN) -> str | None:
        """The document's text; None when there is no such document, or not for this scope."""
