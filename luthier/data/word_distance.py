"""How many words must be changed, put in or left out to make one text of another, for many pairs.

Levenshtein's distance over words (Levenshtein 1966), in a band of the diagonal as wide as what is
allowed (Ukkonen 1985), computed for thousands of pairs at a time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from luthier.data.words import Indices, Words

#: Cells of the padded tables that are worked on at a time.
CELLS = 1 << 21

Booleans = npt.NDArray[np.bool_]


def within(words: Words, left: Indices, right: Indices, allowed: Indices) -> Booleans:
    """Which pairs differ in at most so many words, and not in numbers alone.

    Texts whose only differences are words with digits in them (order numbers, sums, dates) ask
    different things and count as different.

    Args:
        words: the texts.
        left, right: [pairs] numbers of distinct texts.
        allowed: [pairs] the most words that may differ.
    """
    near = np.zeros(len(left), bool)
    longest = np.maximum(words.lengths.take(left), words.lengths.take(right))
    order = np.argsort(longest, kind="stable")
    start = 0
    while start < len(order):
        # pairs of similar length go together, the longest of them sets the width
        width = int(longest[order[start]])
        stop = min(len(order), start + max(1, CELLS // max(width, 1)))
        while stop > start + 1 and (stop - start) * int(longest[order[stop - 1]]) > 2 * CELLS:
            stop = start + (stop - start) // 2
        some = order[start:stop]
        near[some] = _chunk(words, left[some], right[some], allowed[some])
        start = stop
    return near


def _chunk(words: Words, left: Indices, right: Indices, allowed: Indices) -> Booleans:
    lengths_a, lengths_b = words.lengths.take(left), words.lengths.take(right)
    width = int(max(lengths_a.max(), lengths_b.max()))
    a, b = words.padded(left, width), words.padded(right, width)
    differs = a != b
    same_length = lengths_a == lengths_b
    near = same_length & (differs.sum(1) <= allowed)
    # a difference of numbers alone: both words hold a digit, wherever they differ
    other = (differs & ~((a & 1).astype(bool) & (b & 1).astype(bool))).any(1)
    only_numbers = near & ~other & differs.any(1)
    open_ = ~near & (np.abs(lengths_a - lengths_b) <= allowed)
    rest = np.flatnonzero(open_)
    if len(rest):
        found = rest[_banded(a[rest], b[rest], lengths_a[rest], lengths_b[rest], allowed[rest])]
        near[found] = True
        for place in found:
            mine, yours = a[place, : lengths_a[place]], b[place, : lengths_b[place]]
            changed = np.setxor1d(mine, yours)
            only_numbers[place] = bool(len(changed)) and bool((changed & 1).all())
    kept: Booleans = near & ~only_numbers
    return kept


def _banded(
    a: npt.NDArray[np.uint32],
    b: npt.NDArray[np.uint32],
    lengths_a: npt.NDArray[np.int32],
    lengths_b: npt.NDArray[np.int32],
    allowed: Indices,
) -> Booleans:
    """Which pairs have a distance of at most `allowed`; all arrays have one row a pair."""
    pairs, width = a.shape
    band = int(allowed.max())
    far = band + 1
    near = np.zeros(pairs, bool)
    alive = np.arange(pairs)
    # cell d of a line i stands for column j = i + d - band
    line = np.full((pairs, 2 * band + 1), far, np.int32)
    for column in range(min(band, width) + 1):
        line[:, band + column] = column
    for i in range(width + 1):
        ends = alive[lengths_a[alive] == i]
        if len(ends):
            places = lengths_b[ends] - i + band
            inside = (places >= 0) & (places <= 2 * band)
            at = np.clip(places, 0, 2 * band)
            near[ends] = inside & (line[ends, at] <= allowed[ends])
        alive = alive[lengths_a[alive] > i]
        if i % 4 == 3:
            alive = alive[line[alive].min(1) <= allowed[alive]]
        if not len(alive) or i == width:
            break
        above = line[alive]
        below = np.full_like(above, far)
        word = a[alive, i]
        for d in range(2 * band + 1):
            j = i + 1 + d - band
            if j < 0 or j > width:
                continue
            best = above[:, d + 1] + 1 if d < 2 * band else np.full(len(alive), far, np.int32)
            if j > 0:
                best = np.minimum(best, above[:, d] + (b[alive, j - 1] != word))
                if d > 0:
                    best = np.minimum(best, below[:, d - 1] + 1)
            below[:, d] = np.minimum(best, far)
        line[alive] = below
    return near
