"""BIO tags: entities as tags of words, and tags back to entities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTSIDE = "O"


def tag_names(types: Sequence[str]) -> tuple[str, ...]:
    """O, then B-type and I-type of every type, in order (IOB2: Tjong Kim Sang & Veenstra 1999)."""
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))


def tags_of(spans: Sequence[tuple[str, int, int]], words: int) -> list[str]:
    """The tag of each of so many words.

    Args:
        spans: (type, first word, number of words), none overlapping another.
        words: how many there are.
    """
    tags = [OUTSIDE] * words
    for kind, start, size in spans:
        tags[start] = f"B-{kind}"
        tags[start + 1 : start + size] = [f"I-{kind}"] * (size - 1)
    return tags


def best_tags(scores: NDArray[Any], names: Sequence[str]) -> list[str]:
    """The likeliest sequence of tags that is valid IOB2: I-type only behind B-type or I-type.

    Viterbi's algorithm with scores of words and forbidden steps; no step is liked more than
    another. So every sequence it gives means one set of spans, in the strict sense.

    Args:
        scores: (n, tags) log-probabilities.
        names: the tags, as `tag_names` gives them.
    """
    if not len(scores):
        return []
    allowed = np.array(
        [[not new.startswith("I-") or old[2:] == new[2:] != "" for new in names] for old in names]
    )
    steps = np.where(allowed, 0.0, -np.inf)  # (from, to)
    first = np.array([not name.startswith("I-") for name in names])
    total = np.where(first, scores[0], -np.inf)
    came: list[NDArray[Any]] = []
    for row in scores[1:]:
        ways = total[:, None] + steps
        came.append(ways.argmax(0))
        total = ways.max(0) + row
    place = int(total.argmax())
    path = [place]
    for before in reversed(came):
        place = int(before[place])
        path.append(place)
    return [names[place] for place in reversed(path)]
