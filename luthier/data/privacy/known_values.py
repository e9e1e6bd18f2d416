"""Values that are known already, wherever they stand again.

A phone number is found behind "call me at", and not where it stands alone in the next row. Once it
is known, it is looked for by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from luthier.data.privacy.finding import kinds
from luthier.data.privacy.spans import Span

_WORD = re.compile(r"\w+")
#: Characters below which a value is too common to be looked for by itself.
_LEAST = 6
#: Above what any detector says: a known value is replaced whole, the same way each time.
_SURE = 1.0


class KnownValues:
    """What was found so far.

    Args:
        values: (kind, value); those that would be found too often are left out.
    """

    def __init__(self, values: Iterable[tuple[str, str]]) -> None:
        self._behind: dict[str, dict[str, tuple[int, str]]] = {}
        for kind, value in values:
            first = _WORD.search(value)
            if first is not None and tell_tale(kind, value):
                self._behind.setdefault(first[0], {}).setdefault(value, (first.start(), kind))

    def find(self, text: str) -> Iterator[Span]:
        """Where the values stand in a text as words of their own; the spans may overlap."""
        if not self._behind:
            return
        for word in _WORD.finditer(text):
            for value, (before, kind) in self._behind.get(word[0], {}).items():
                start = word.start() - before
                end = start + len(value)
                if start < 0 or not text.startswith(value, start):
                    continue
                if text[end : end + 1].isalnum() and value[-1].isalnum():
                    continue
                if start and text[start - 1].isalnum() and value[0].isalnum():
                    continue
                yield Span(start, end, kind, value, _SURE, "found elsewhere")


def tell_tale(kind: str, value: str) -> bool:
    """Whether a value says the same wherever it stands: a number, an address, a full name, but no
    given name alone and no year."""
    if len(value) < _LEAST:
        return False
    level = kinds()[kind].level
    return level in ("secret", "identifier") or (level == "person" and len(value.split()) > 1)
