"""Written ids to text: where an answer ends, and how much of it may be shown already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthier.generation.options import Stopping


class Texts:
    """Text of the ids a model writes.

    Args:
        tokenizer: the model's.
        stopping: when an answer has ended.
    """

    def __init__(self, tokenizer: Any, stopping: Stopping) -> None:
        self._tokenizer = tokenizer
        self._stopping = stopping
        # a token is a byte at least, so a stop string is in the last that many; a few more for
        # what surrounds it
        self._tail = max((len(s.encode()) for s in stopping.strings), default=0) + 8

    def ended(self, ids: Sequence[int]) -> bool:
        """Whether the last id ends the answer, by itself or by completing a stop string."""
        if ids[-1] in self._stopping.ids:
            return True
        if not self._stopping.strings:
            return False
        tail = self._decode(ids[-self._tail :])
        return any(stop in tail for stop in self._stopping.strings)

    def whole(self, ids: Sequence[int]) -> str:
        """The answer: without what ends it and without white space around it."""
        return self._cut(ids).strip()

    def showable(self, ids: Sequence[int]) -> str:
        """As much of the answer as later ids cannot take back.

        Held back: half a character, what may turn out to start a stop string, and white space,
        which may turn out to be the end.
        """
        text = self._cut(ids).rstrip("\ufffd")
        held = 0
        for stop in self._stopping.strings:
            for length in range(min(len(stop) - 1, len(text)), held, -1):
                if text.endswith(stop[:length]):
                    held = length
                    break
        return text[: len(text) - held].strip()

    def _cut(self, ids: Sequence[int]) -> str:
        if ids and ids[-1] in self._stopping.ids:
            ids = ids[:-1]
        text = self._decode(ids)
        # in the whole text: cutting at one stop string could hide another that begins before it
        starts = [text.find(stop) for stop in self._stopping.strings]
        return text[: min((start for start in starts if start >= 0), default=len(text))]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))
