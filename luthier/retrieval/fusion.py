"""Several rankings of passages made one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luthier.retrieval.passages import Passage

#: The constant of reciprocal rank fusion, as its authors set it.
RANK_CONSTANT = 60


def fuse(rankings: Sequence[Sequence[Passage]], constant: int = RANK_CONSTANT) -> list[Passage]:
    """Reciprocal rank fusion (Cormack, Clarke & Buettcher, SIGIR 2009): a passage's score is the
    sum of 1 / (constant + rank) over the rankings that hold it, ranks from 1.

    Equal scores keep the order of the first ranking that holds them, so the result is the same on
    any machine.
    """
    scores: dict[tuple[str, int, int], float] = {}
    held: dict[tuple[str, int, int], Passage] = {}
    for ranking in rankings:
        for rank, passage in enumerate(ranking, 1):
            key = (passage.document, passage.start, passage.end)
            scores[key] = scores.get(key, 0.0) + 1 / (constant + rank)
            held.setdefault(key, passage)
    order = sorted(scores, key=lambda key: -scores[key])
    return [replace(held[key], score=scores[key]) for key in order]
