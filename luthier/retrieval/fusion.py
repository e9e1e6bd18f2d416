"""Several rankings of passages made one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luthier.retrieval.passages import Passage

#: The constant of reciprocal rank fusion, as its authors set it.
RANK_CONSTANT = 60
#: What words count for in `combine`; vectors count for the rest. Chosen on half of the articles of
#: SQuAD; on the other half, as on that one, anything from 0.3 to 0.6 beats both parts.
WORDS = 0.4

#: What the nearest sentence counts for in `with_sentences`. Chosen on half of the articles of
#: SQuAD, where it raised nDCG@10 of the hybrid search by 0.015; on the other half it did by 0.014.
#: To rank by sentences alone, or to fuse that ranking with the first by ranks, made it worse.
SENTENCES = 0.5

Key = tuple[str, int, int]


def combine(
    by_words: Sequence[Passage], by_vector: Sequence[Passage], words: float = WORDS
) -> list[Passage]:
    """A weighted sum of scores (Bruch, Gai & Ingber 2023, arXiv 2210.11934): BM25 divided by its
    highest, and the cosine. Which of two passages is better then depends on how much better it is,
    which ranks do not say.

    Args:
        by_words: passages by BM25, best first.
        by_vector: passages by cosine, best first.
        words: the weight of the first, from 0 to 1.

    A passage that only one ranking holds has 0 for words, or the lowest cosine in the ranking.
    """
    highest = by_words[0].score if by_words and by_words[0].score > 0 else 1.0
    lowest = by_vector[-1].score if by_vector else 0.0
    near = {key_of(passage): passage.score for passage in by_vector}
    held = {key_of(passage): passage for passage in (*by_words, *by_vector)}
    said = {key_of(passage): passage.score / highest for passage in by_words}
    scores = {key: words * said.get(key, 0.0) + (1 - words) * near.get(key, lowest) for key in held}
    return _ranked(held, scores)


def fuse(rankings: Sequence[Sequence[Passage]], constant: int = RANK_CONSTANT) -> list[Passage]:
    """Reciprocal rank fusion (Cormack, Clarke & Buettcher, SIGIR 2009): a passage's score is the
    sum of 1 / (constant + rank) over the rankings that hold it, ranks from 1."""
    scores: dict[Key, float] = {}
    held: dict[Key, Passage] = {}
    for ranking in rankings:
        for rank, passage in enumerate(ranking, 1):
            key = key_of(passage)
            scores[key] = scores.get(key, 0.0) + 1 / (constant + rank)
            held.setdefault(key, passage)
    return _ranked(held, scores)


def with_sentences(
    passages: Sequence[Passage],
    nearness: Sequence[float],
    *,
    divided: bool,
    weight: float = SENTENCES,
) -> list[Passage]:
    """Passages by their own score and the cosine of the sentence that is nearest to the question.

    Args:
        passages: best first.
        nearness: for each, the highest cosine of one of its sentences.
        divided: whether their scores are to be divided by the highest, being no cosines nor of
            their size.
        weight: of the sentence.
    """
    highest = passages[0].score if divided and passages and passages[0].score > 0 else 1.0
    held = {key_of(passage): passage for passage in passages}
    scores = {
        key_of(passage): passage.score / highest + weight * near
        for passage, near in zip(passages, nearness, strict=True)
    }
    return _ranked(held, scores)


def key_of(passage: Passage) -> Key:
    """What tells passages apart."""
    return passage.document, passage.start, passage.end


def _ranked(held: dict[Key, Passage], scores: dict[Key, float]) -> list[Passage]:
    """The best first; equal ones in the order they were found in, the same on any machine."""
    order = sorted(scores, key=lambda key: -scores[key])
    return [replace(held[key], score=scores[key]) for key in order]
