"""Looking through examples for personal data and secrets, and counting what is there."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from luthier.data.examples import Example
from luthier.data.linting import MOST_ROWS, texts_of
from luthier.data.privacy.finding import find_many, kinds
from luthier.data.privacy.masking import masked
from luthier.data.privacy.spans import Span

#: Most values a tally remembers, to count how many different ones there are.
_MOST_VALUES = 100_000


def scan(
    examples: Sequence[Example], types: Iterable[str], least: float
) -> Iterator[tuple[Example, str, list[Span]]]:
    """(example, "input" or "output", spans) of every text that holds some of the types."""
    asked, searched = itertools.tee(texts_of(examples))
    answers = find_many((text for _, _, text in searched), types=types, least=least)
    for (example, where, _), spans in zip(asked, answers, strict=True):
        if spans:
            yield example, where, spans


@dataclass
class Tally:
    """What was found, counted without keeping it.

    Attributes:
        rows: how many rows held something.
        places: where the first of them were read, as a finding's `rows`.
        types: how many spans of each type.
        shown: the first value, masked, with its evidence and place.
    """

    rows: int = 0
    places: list[str] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)
    shown: str = ""
    _values: set[int] = field(default_factory=set)
    _last: int = 0

    def add(self, example: Example, spans: Sequence[Span]) -> None:
        """Count spans of one text of an example; texts of one example must come together."""
        if not spans:
            return
        if self._last != id(example) or not self.rows:
            self._last = id(example)
            self.rows += 1
            if len(self.places) < MOST_ROWS:
                self.places.append(example.source or example.id)
        if not self.shown:
            span = spans[0]
            self.shown = f"{masked(span)} ({span.evidence}; {example.source or example.id})"
        for span in spans:
            self.types[span.type] += 1
            if len(self._values) < _MOST_VALUES:
                self._values.add(hash(span.text))

    @property
    def different(self) -> int:
        """How many different values, up to 100,000."""
        return len(self._values)

    def listed(self) -> str:
        """ "3 e-mail addresses, 1 phone number", the most frequent first."""
        known = kinds()
        return ", ".join(known[name].counted(count) for name, count in self.types.most_common())
