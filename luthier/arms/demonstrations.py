"""Which training examples are shown in a prompt, the same for every question.

References:
    Gonzalez 1985, Theor. Comput. Sci. 38:293 (k-centre, farthest point first);
    Zhang et al. 2023, "Automatic chain of thought prompting", arXiv 2210.03493 (one example of
    each cluster);
    Lu et al. 2022, "Fantastically ordered prompts", arXiv 2104.08786 (why order is mixed by a seed).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from luthier.data.examples import Example

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def pick_examples(examples: Sequence[Example], size: int, seed: str) -> list[Example]:
    """A seeded draw, spread evenly over the answers where answers repeat, in mixed order."""
    order = random.Random(f"few-shot-{seed}")
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in order.sample(list(examples), len(examples)):
        groups[example.output].append(example)
    if len(groups) > size:  # free text: hardly an answer repeats, so any will do
        return order.sample(list(examples), min(size, len(examples)))
    chosen: list[Example] = []
    while len(chosen) < size and any(groups.values()):
        for answer in sorted(groups):
            if groups[answer] and len(chosen) < size:
                chosen.append(groups[answer].pop())
    order.shuffle(chosen)
    return chosen


def spread_out(
    examples: Sequence[Example], vectors: Array, size: int, seed: str, *, by_answer: bool
) -> list[Example]:
    """Examples far from each other: k-centre by farthest point first, from the most central one.

    Args:
        examples: to choose from, n.
        vectors: their embeddings, (n, d), of length 1.
        size: how many.
        seed: of the order they are shown in.
        by_answer: whether all answers get the same share, as they do in `pick_examples`.
    """
    chosen: list[int] = []
    for rows, share in _shares(examples, size, by_answer=by_answer):
        chosen += [rows[place] for place in _farthest(vectors[rows], share)]
    return _mixed(examples, chosen, f"spread-{seed}")


def typical(
    examples: Sequence[Example], vectors: Array, size: int, seed: str, *, by_answer: bool
) -> list[Example]:
    """The example nearest to the middle of each cluster (k-means); arguments as `spread_out`."""
    chosen: list[int] = []
    for rows, share in _shares(examples, size, by_answer=by_answer):
        chosen += [rows[place] for place in _middles(vectors[rows], share)]
    return _mixed(examples, chosen, f"typical-{seed}")


def _shares(
    examples: Sequence[Example], size: int, *, by_answer: bool
) -> list[tuple[list[int], int]]:
    """(rows to choose from, how many of them), in groups of one answer where that is wanted."""
    everything = list(range(len(examples)))
    if not by_answer:
        return [(everything, min(size, len(everything)))]
    groups: dict[str, list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        groups[example.output].append(row)
    if len(groups) > size:
        return [(everything, min(size, len(everything)))]
    shares = dict.fromkeys(sorted(groups), 0)
    left = min(size, len(examples))
    while left:
        for answer in shares:
            if left and shares[answer] < len(groups[answer]):
                shares[answer] += 1
                left -= 1
    return [(groups[answer], share) for answer, share in shares.items()]


def _farthest(vectors: Array, count: int) -> list[int]:
    chosen = [int((vectors @ vectors.mean(axis=0)).argmax())]
    closeness = vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        closeness[chosen] = 2.0  # a cosine that no row reaches: twins must not be chosen twice
        chosen.append(int(closeness.argmin()))
        closeness = _larger(closeness, vectors @ vectors[chosen[-1]])
    return chosen


def _larger(first: Array, second: Array) -> Array:
    import numpy as np

    larger: Array = np.maximum(first, second)
    return larger


def _middles(vectors: Array, count: int) -> list[int]:
    from sklearn.cluster import KMeans

    if count >= len(vectors):
        return list(range(len(vectors)))
    found = KMeans(n_clusters=count, n_init=4, random_state=0).fit(vectors)
    chosen: list[int] = []
    for centre in found.cluster_centers_:
        order = [int(place) for place in (-(vectors @ centre)).argsort(kind="stable")]
        chosen.append(next(place for place in order if place not in chosen))
    return chosen


def _mixed(examples: Sequence[Example], rows: Sequence[int], seed: str) -> list[Example]:
    chosen = [examples[row] for row in rows]
    random.Random(seed).shuffle(chosen)
    return chosen
