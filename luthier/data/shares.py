"""Choosing some of many rows: in an order anyone can reproduce, each class its share."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence

from luthier.data.examples import Example


def allocate(sizes: Mapping[str, int], total: int, least: int) -> dict[str, int]:
    """Share out `total` rows among classes in proportion to their sizes.

    Each class first gets `least` rows, or all it has (larger classes first where the total does
    not reach); the rest goes, row by row, to the class that is furthest below its exact share.

    Args:
        sizes: rows of each class.
        total: rows wanted; no more than there are.
        least: rows that each class gets at least.
    """
    everything = sum(sizes.values())
    shares = {name: total * size / everything for name, size in sizes.items()}
    given = dict.fromkeys(sizes, 0)
    free = min(total, everything)
    largest_first = sorted(sizes, key=lambda name: (-sizes[name], name))
    for _ in range(least):
        for name in largest_first:
            if free and given[name] < sizes[name]:
                given[name] += 1
                free -= 1
    queue = [(given[name] - shares[name], name) for name in sizes if given[name] < sizes[name]]
    heapq.heapify(queue)
    while free:
        over, name = heapq.heappop(queue)
        given[name] += 1
        free -= 1
        if given[name] < sizes[name]:
            heapq.heappush(queue, (over + 1, name))
    return given


def rank(salt: str, name: str) -> bytes:
    """A place in an order that looks random and is the same on any machine."""
    return hashlib.sha256(f"{salt}:{name}".encode()).digest()


def sample(
    examples: Sequence[Example], size: int, stratify: bool, least: int, salt: str
) -> list[Example]:
    """`size` of the examples, in their order; with `stratify`, classes in proportion.

    Args:
        examples: no fewer than `size`.
        size: rows wanted.
        stratify: keep the shares of the outputs.
        least: rows of each output that are kept where there are as many; see `allocate`.
        salt: what the choice depends on besides the ids.
    """
    classes = [example.output for example in examples] if stratify else None
    kept = set(pick([example.id for example in examples], classes, size, least, salt))
    return [example for index, example in enumerate(examples) if index in kept]


def pick(
    ids: Sequence[str], classes: Sequence[str] | None, size: int, least: int, salt: str
) -> list[int]:
    """Places of `size` of the rows with these ids, ascending; see `sample`.

    Args:
        ids: of the rows, no fewer than `size`.
        classes: of the rows, whose shares are kept; or None.
        size, least, salt: as for `sample`.
    """
    free = {"": size} if classes is None else allocate(Counter(classes), size, least)
    kept = []
    for index in sorted(range(len(ids)), key=lambda i: rank(salt, ids[i])):
        name = "" if classes is None else classes[index]
        if free[name]:
            free[name] -= 1
            kept.append(index)
    return sorted(kept)
