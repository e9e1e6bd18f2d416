"""A second look at the first passages: which of them has a sentence that is near the question."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from luthier.retrieval.chunks import sentences
from luthier.retrieval.passages import Passage

#: Passages whose sentences are remembered: about 8 kB each with 384 dimensions.
_KEPT = 4_096
_NOTHING: np.ndarray[Any, Any] = np.zeros((0, 0), dtype=np.float32)


class Sentences:
    """Finds how near the nearest sentence of a passage is to a question.

    A vector of a whole passage is an average of all that it speaks of; the answer often stands in
    one sentence. Encoding twenty passages by sentence takes as long as everything else of a search
    twenty times over, and the same passages are found again and again, so the vectors of the
    passages that were looked at last are kept.

    Args:
        encoder: that encodes questions and sentences.
        kept: passages whose vectors are remembered.
    """

    def __init__(self, encoder: Any, kept: int = _KEPT) -> None:
        self.encoder = encoder
        self._most = kept
        self._lock = Lock()
        # by what is encoded, so that a passage that was revised is never taken for the new one
        self._known: OrderedDict[tuple[str, str], np.ndarray[Any, Any]] = OrderedDict()

    def nearest(self, question: np.ndarray[Any, Any], passages: Sequence[Passage]) -> list[float]:
        """The highest cosine of the question with a sentence of each passage; -1 for one that has
        none.

        Args:
            question: its vector, of length 1.
            passages: that were found.
        """
        return [
            float((vectors @ question).max()) if len(vectors) else -1.0
            for vectors in self._vectors(passages)
        ]

    def _vectors(self, passages: Sequence[Passage]) -> list[np.ndarray[Any, Any]]:
        """Of each passage, its sentences (n, d)."""
        keys = [(" / ".join(passage.heading[-1:]), passage.text) for passage in passages]
        with self._lock:
            held = {key: self._known[key] for key in keys if key in self._known}
        new = [key for key in dict.fromkeys(keys) if key not in held]
        cut = [_sentences(*key) for key in new]
        if any(cut):
            vectors = self.encoder.encode([text for texts in cut for text in texts])[0]
            ends = np.cumsum([len(texts) for texts in cut])
            # copies: a view would keep the vectors of all of them alive
            held |= {
                key: part.copy()
                for key, part in zip(new, np.split(vectors, ends[:-1]), strict=True)
            }
        with self._lock:
            for key in keys:
                if key in held:
                    self._known[key] = held[key]
                    self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return [held.get(key, _NOTHING) for key in keys]


def _sentences(above: str, text: str) -> list[str]:
    """The sentences of a passage, each below its heading."""
    start = f"{above}: " if above else ""
    return [start + text[one:end] for one, end in sentences(text)]
