"""A second look at the first passages: which of them has a sentence that is near the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from luthier.retrieval.chunks import sentences
from luthier.retrieval.passages import Passage


def by_sentences(
    encoder: Any, question: np.ndarray[Any, Any], passages: Sequence[Passage]
) -> list[Passage]:
    """Passages by the highest cosine of the question with one of their sentences.

    A vector of a whole passage is an average of all that it speaks of; the answer often stands in
    one sentence.

    Args:
        encoder: that encoded the question.
        question: its vector, of length 1.
        passages: to be put in a new order.
    """
    texts: list[str] = []
    owners: list[int] = []
    for number, passage in enumerate(passages):
        above = " / ".join(passage.heading[-1:])
        for start, end in sentences(passage.text):
            texts.append(
                f"{above}: {passage.text[start:end]}" if above else passage.text[start:end]
            )
            owners.append(number)
    if not texts:
        return list(passages)
    nearness = encoder.encode(texts)[0] @ question
    best = np.full(len(passages), -1.0)
    np.maximum.at(best, owners, nearness)
    order = sorted(range(len(passages)), key=lambda number: -best[number])
    return [replace(passages[number], score=float(best[number])) for number in order]
