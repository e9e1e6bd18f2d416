"""Near-duplicates: texts that differ in at most one word in ten.

The definition: two texts are near-duplicates when, up to case, space and punctuation, at most
ceil(n / 10) words, or 0.15 n where that is more, must be changed, put in or left out to make one of
the other, n being the words of the longer; both have at least `LEAST_WORDS` words (of shorter texts
a word is too much of what is said); and the difference is not numbers alone. Texts of under `SHORT`
words that differ in one word are near only where at most `SAME_PATTERN` texts of the data are alike
but for that word and for numbers: more are a pattern that is filled in ("What is the capital of
...?") and ask different things. What all texts begin or end with (an instruction that a template
puts before each) is left out of the count.

Shares of common word sequences, what MinHash estimates, cannot see this: one word of ten changed in
the middle leaves 5 of 11 distinct three-word sequences in common. So pairs are found by what the
definition guarantees. A text is cut into as many pieces as words may differ; then at least one
piece of a pair differs in at most one word, and has, with that word left out, the same hash
(pigeonhole principle as in Li et al. 2011, "Pass-Join", PVLDB 5:253; deletion neighbourhoods of Mor
and Fraenkel 1982). Half of the pieces count from the start and half from the end, so words put in
or left out are survived by the pieces on the other side of them. Texts of over 60 words take 6 of
their pieces, evenly spread. What hashes alike is compared in full (`word_distance`), so nothing
found is wrong; changes of words in texts of up to 60 words are all found, unless more than 32 texts
share every piece: then each is compared with its nearest by MinHash (Broder 1997) only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from luthier.data.near_keys import AT_ONCE, keys_of
from luthier.data.numbered import Codes, Keys
from luthier.data.word_distance import within
from luthier.data.words import Indices, Words, mix
from luthier.progress import Reporter

#: The share of words that may differ.
SHARE = 0.1
#: Texts of fewer words are near-duplicates only when they are equal.
LEAST_WORDS = 5
#: Of shorter texts than this a changed word is more than one in ten.
SHORT = 10
SAME_PATTERN = 3
#: Most pieces of a text that are hashed.
MOST_PIECES = 6
#: All pairs of so many texts that share a piece are compared; of more, neighbours are.
SMALL = 32
NEIGHBOURS = 8


@dataclass(frozen=True)
class Nearness:
    """What counts as near.

    Attributes:
        share: of the words that may differ, rounded up to whole words.
        least_words: words of the shortest text that is looked at.
    """

    share: float = SHARE
    least_words: int = LEAST_WORDS

    def allowed(self, words: int) -> int:
        """How many words may differ where the longer text has so many: the share rounded up, or,
        where that is more, half as much again rounded down."""
        return max(self.guaranteed(words), math.floor(1.5 * words * self.share + 1e-9))

    def guaranteed(self, words: int) -> int:
        """So many changed words are always found: the share rounded up."""
        return math.ceil(words * self.share - 1e-9)

    def allowed_each(self, words: npt.NDArray[np.int32]) -> Indices:
        """`allowed`, for each of many; -1 where the text is too short to be looked at."""
        table = np.array([self.allowed(n) for n in range(int(words.max(initial=0)) + 1)], np.int64)
        return np.where(words >= self.least_words, table[words], -1)


NEAR = Nearness()


@dataclass(frozen=True)
class Twins:
    """What is equal or near among texts.

    Attributes:
        equal: [rows] texts of one number are equal when folded.
        cluster: [rows] texts of one number are equal, near-duplicates, or linked by others. The
            numbers mean nothing but sameness; the grouping does not depend on the order.
        across: for a row of one side with an equal or near text on an earlier one, by (side,
            earlier side): {row: (the first such row, an equal one where there is one, whether it
            is)}.
    """

    equal: Codes
    cluster: Codes
    across: dict[tuple[int, int], dict[int, tuple[int, bool]]]


def clusters(texts: Iterable[str], nearness: Nearness = NEAR) -> Codes:
    """[rows]: `Twins.cluster` of texts."""
    return find_twins(texts, nearness).cluster


def find_twins(
    texts: Iterable[str],
    nearness: Nearness = NEAR,
    sides: Sequence[int] = (),
    reporter: Reporter | None = None,
) -> Twins:
    """Find equal and near texts.

    Time grows with the words of the texts; memory by some 60 bytes with every distinct text.

    Args:
        texts: of all sides, one side after another.
        nearness: what counts as near.
        sides: how many texts each side has (training, validation, test); without it there is one.
        reporter: hears how far the search is, once the texts are read.
    """
    words = Words(texts)
    words.without_common_ends()
    nearest = _Nearest(words, sides)
    label: Codes = np.arange(len(words), dtype=np.int32)
    for left, right in _candidates(words, nearness, reporter or Reporter()):
        wanted = label[left] != label[right]
        nearest.want(wanted, left, right)
        left, right = left[wanted], right[wanted]
        longer = np.maximum(words.lengths[left], words.lengths[right])
        near = within(words, left, right, nearness.allowed_each(longer))
        left, right = left[near], right[near]
        label = _joined(label, left, right)
        nearest.found(left, right)
    return Twins(words.row_of[words.text_of], label[words.text_of], nearest.across())


class _Nearest:
    """Rows of one side with their twins on earlier ones; see `Twins.across`."""

    def __init__(self, words: Words, sides: Sequence[int]) -> None:
        self._words = words
        many = len(sides) if len(sides) > 1 else 0
        self._starts = np.concatenate(([0], np.cumsum(np.array(sides[:many], np.int64))))
        # for each side the first row of each distinct text, or -1
        self._first = np.full((many, len(words)), -1, np.int32)
        for side in range(many):
            rows = np.arange(self._starts[side], self._starts[side + 1])[::-1]
            self._first[side, words.text_of[rows]] = rows
        self._held = self._first >= 0
        self._nearest = {
            (one, other): np.where(self._held[one], self._first[other], np.int32(-1))
            for one in range(many)
            for other in range(one)
        }
        self._equals = {key: rows.copy() for key, rows in self._nearest.items()}

    def want(self, wanted: npt.NDArray[np.bool_], left: Indices, right: Indices) -> None:
        """Mark the pairs that may be a row's first twin."""
        for (one, other), rows in self._nearest.items():
            for a, b in ((left, right), (right, left)):
                wanted |= self._held[one][a] & self._held[other][b] & (rows[a] < 0)

    def found(self, left: Indices, right: Indices) -> None:
        """Take pairs of near texts."""
        for (one, other), rows in self._nearest.items():
            for a, b in ((left, right), (right, left)):
                crosses = self._held[one][a] & self._held[other][b]
                crosses &= self._equals[one, other][a] < 0
                a, b = a[crosses], self._first[other][b[crosses]]
                best = np.full(len(rows), np.iinfo(np.int32).max, np.int32)
                np.minimum.at(best, a, b)
                better = a[(rows[a] < 0) | (best[a] < rows[a])]
                rows[better] = best[better]

    def across(self) -> dict[tuple[int, int], dict[int, tuple[int, bool]]]:
        across = {}
        for (one, other), rows in self._nearest.items():
            start = int(self._starts[one])
            texts = self._words.text_of[start : self._starts[one + 1]]
            equal_row = self._equals[one, other]
            across[one, other] = {
                start + place: (int(rows[text]), bool(equal_row[text] >= 0))
                for place, text in enumerate(texts.tolist())
                if rows[text] >= 0
            }
        return across


def pieces(words: int, nearness: Nearness) -> list[tuple[int, int]]:
    """(start, length) of the pieces of a text of so many words that are hashed.

    A text that is one word longer than another is cut as that one is too, so that they share
    pieces where the number or the length of the pieces changes; and one that is a word shorter
    than those in which more words may differ is cut as they are.
    """
    found: dict[tuple[int, int], None] = {}
    more = nearness.guaranteed(words + 1) > nearness.guaranteed(words)
    for like in (words, words - 1, *([words + 1] if more else ())):
        count = nearness.guaranteed(like)
        if like < nearness.least_words or not count:
            continue
        if count == 1:
            found[0, words] = None
            continue
        length = like // count
        kept = range(count)
        if count > MOST_PIECES:
            step = (count - 1) / (MOST_PIECES - 1)
            kept = [round(place * step) for place in range(MOST_PIECES)]  # type: ignore[assignment]
        for piece in kept:
            front = 2 * piece < count
            found[piece * length if front else words - (count - piece) * length, length] = None
    return list(found)


def _candidates(
    words: Words, nearness: Nearness, reporter: Reporter
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of distinct texts that share a key, in lots; a pair may come in several lots."""
    if not (words.lengths >= nearness.least_words).any() or not nearness.share:
        return
    signs = _minhashes(words)
    plan = _planned(words, nearness)
    # laying out the keys takes about as long as comparing what shares one
    with reporter.work("looking for near-duplicates", 2 * len(words)) as bar:
        for keys, owners in keys_of(words, plan, bar):
            yield from _sharing(words, signs, keys, owners)


def _sharing(
    words: Words, signs: npt.NDArray[np.uint32], keys: Keys, owners: Codes
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs among the texts that share one of these keys."""
    order = np.argsort(keys, kind="stable")
    keys, owners = keys[order], owners[order]
    del order
    # a text with a word twice in a row has one key twice
    again = (np.diff(keys, prepend=~keys[:1]) == 0) & (np.diff(owners, prepend=-1) == 0)
    keys, owners = keys[~again], owners[~again]
    new = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
    sizes = np.diff(new, append=len(keys))
    filled_in = np.repeat(sizes > SAME_PATTERN, sizes) & (words.lengths[owners] < SHORT)
    kept = np.repeat(sizes > 1, sizes) & ~filled_in
    keys, owners = keys[kept], owners[kept]
    new = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
    sizes = np.diff(new, append=len(keys))
    group = np.repeat(np.arange(len(new)), sizes)
    small = (sizes > 1) & (sizes <= SMALL)
    yield from _pairs(group, owners, small[group], SMALL - 1)
    large = np.flatnonzero(sizes[group] > SMALL)
    if len(large):
        # texts with one MinHash side by side; equal ones in an order that no file decides
        which = (keys[large] & np.uint64(3)).astype(np.int64)
        sign = signs[owners[large], which]
        order = np.lexsort((words.hashes[owners[large]], sign, group[large]))
        large = large[order]
        everything = np.ones(len(large), bool)
        yield from _pairs(group[large], owners[large], everything, NEIGHBOURS)


def _pairs(
    group: Indices, owners: Codes, wanted: npt.NDArray[np.bool_], reach: int
) -> Iterator[tuple[Indices, Indices]]:
    """Each pair of a group's owners that stand at most `reach` apart."""
    places = np.flatnonzero(wanted)
    group, numbers = group[places], owners[places].astype(np.int64)
    lots: list[npt.NDArray[np.int64]] = []
    held = 0
    for gap in range(1, reach + 1):
        same = np.flatnonzero(group[gap:] == group[:-gap])
        if not len(same):
            break
        a, b = numbers[same], numbers[same + gap]
        low, high = np.minimum(a, b), np.maximum(a, b)
        code = np.unique((low << 32 | high)[low != high])
        lots.append(code)
        held += len(code)
        if held > AT_ONCE:
            yield _unpacked(lots)
            lots, held = [], 0
    if held:
        yield _unpacked(lots)


def _unpacked(lots: list[npt.NDArray[np.int64]]) -> tuple[Indices, Indices]:
    code = np.unique(np.concatenate(lots))
    return code >> 32, code & 0xFFFFFFFF


def _planned(words: Words, nearness: Nearness) -> dict[int, list[tuple[int, int]]]:
    """The pieces of texts of each length that there is."""
    return {
        int(length): pieces(int(length), nearness)
        for length in np.flatnonzero(np.bincount(words.lengths))
        if length >= nearness.least_words
    }


def _minhashes(words: Words) -> npt.NDArray[np.uint32]:
    """[texts, 4] the least of four hashes of each text's words."""
    signs = np.zeros((len(words), 4), np.uint32)
    for first, hashes, begins, lengths in words.batches():
        texts = np.flatnonzero(lengths)
        if not len(texts):
            continue
        for number in range(4):
            salted = mix(hashes.astype(np.uint64) + np.uint64(number << 40))
            # words left out between two texts are counted to the first of them: no harm is done
            least = np.minimum.reduceat((salted >> np.uint64(32)).astype(np.uint32), begins[texts])
            signs[first + texts, number] = least
    return signs


def _joined(label: Codes, left: Indices, right: Indices) -> Codes:
    """The labels after each pair's two were made one."""
    if not len(left):
        return label
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    size = int(label.max()) + 1
    links = coo_matrix((np.ones(len(left), bool), (label[left], label[right])), (size, size))
    _, component = connected_components(links, directed=False)
    joined: Codes = component[label]
    return joined
