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

from luthier.data.column import Column
from luthier.data.near_keys import AT_ONCE, keys_of
from luthier.data.numbered import Codes, Keys
from luthier.data.units import join, own_labels
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

    Time grows with the words of the texts; memory by some 20 bytes with every text and side.

    Args:
        texts: of all sides, one side after another.
        nearness: what counts as near.
        sides: how many texts each side has (training, validation, test); without it there is one.
        reporter: hears how far the search is, once the texts are read.
    """
    words = Words(texts)
    nearest = _Nearest(words, sides)
    label = _linked(words, nearness, reporter or Reporter(), nearest)
    text_of = words.text_of.array()
    return Twins(words.row_of.array()[text_of], label.array()[text_of], nearest.across())


def twin_columns(
    texts: Iterable[str], nearness: Nearness = NEAR, reporter: Reporter | None = None
) -> tuple[Column, Column]:
    """(`Twins.equal`, `Twins.cluster`, each as the first row of its kind) of texts of one side.

    Memory does not grow with the texts; what is known of each lies in temporary files.

    Args:
        texts: gone through once.
        nearness, reporter: as for `find_twins`.
    """
    words = Words(texts)
    label = _linked(words, nearness, reporter or Reporter(), None)
    lots = (block for _, block in words.text_of.blocks())
    equal = Column.of(np.int32, map(words.row_of.take, lots))
    lots = (label.take(block) for _, block in words.text_of.blocks())
    return equal, Column.of(np.int32, map(words.row_of.take, lots))


def _linked(
    words: Words, nearness: Nearness, reporter: Reporter, nearest: _Nearest | None
) -> Column:
    """[distinct texts] the first text that each is near to, directly or through others."""
    words.without_common_ends()
    label = own_labels(len(words))
    for left, right in _candidates(words, nearness, reporter):
        wanted = label.take(left) != label.take(right)
        if nearest is not None:
            nearest.want(wanted, left, right)
        left, right = left[wanted], right[wanted]
        longer = np.maximum(words.lengths.take(left), words.lengths.take(right))
        near = within(words, left, right, nearness.allowed_each(longer))
        left, right = left[near], right[near]
        join(label, left, right)
        if nearest is not None:
            nearest.found(left, right)
    return label


class _Nearest:
    """Rows of one side with their twins on earlier ones; see `Twins.across`."""

    def __init__(self, words: Words, sides: Sequence[int]) -> None:
        self._text_of = words.text_of.array() if len(sides) > 1 else np.zeros(0, np.int32)
        many = len(sides) if len(sides) > 1 else 0
        self._starts = np.concatenate(([0], np.cumsum(np.array(sides[:many], np.int64))))
        # for each side the first row of each distinct text, or -1
        self._first = np.full((many, len(words)), -1, np.int32)
        for side in range(many):
            rows = np.arange(self._starts[side], self._starts[side + 1])[::-1]
            self._first[side, self._text_of[rows]] = rows
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
            texts = self._text_of[start : self._starts[one + 1]]
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
    plan = _planned(words, nearness)
    if not plan or not nearness.share:
        return
    signs = _minhashes(words)
    # laying out the keys takes about as long as comparing what shares one
    with reporter.work("looking for near-duplicates", 2 * len(words)) as bar:
        for keys, owners in keys_of(words, plan, bar):
            yield from _sharing(words, signs, keys, owners)


def _sharing(
    words: Words, signs: Sequence[Column], keys: Keys, owners: Codes
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs among the texts that share one of these keys."""
    if not len(keys):
        return
    order = np.argsort(keys, kind="stable")
    keys, owners = keys[order], owners[order]
    del order
    new = np.diff(keys, prepend=~keys[:1]) != 0
    alone = new & np.append(new[1:], True)
    keys, owners = keys[~alone], owners[~alone]
    # a text with a word twice in a row has one key twice
    order = np.lexsort((owners, keys))
    keys, owners = keys[order], owners[order]
    del order, new, alone
    again = (np.diff(keys, prepend=~keys[:1]) == 0) & (np.diff(owners, prepend=-1) == 0)
    keys, owners = keys[~again], owners[~again]
    starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
    sizes = np.diff(starts, append=len(keys))
    kept = np.repeat(sizes > 1, sizes)
    pattern = np.flatnonzero(np.repeat(sizes > SAME_PATTERN, sizes))
    kept[pattern[words.lengths.take(owners[pattern]) < SHORT]] = False
    keys, owners = keys[kept], owners[kept]
    starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
    sizes = np.diff(starts, append=len(keys))
    group = np.repeat(np.arange(len(starts)), sizes)
    small = (sizes > 1) & (sizes <= SMALL)
    yield from _pairs(group, owners, small[group], SMALL - 1)
    large = np.flatnonzero(sizes[group] > SMALL)
    if len(large):
        # texts with one MinHash side by side; equal ones in an order that no file decides
        which = (keys[large] & np.uint64(3)).astype(np.int64)
        sign = np.empty(len(large), np.uint32)
        for number, column in enumerate(signs):
            sign[which == number] = column.take(owners[large[which == number]])
        order = np.lexsort((words.hashes.take(owners[large]), sign, group[large]))
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
    lengths: set[int] = set()
    for _, block in words.lengths.blocks():
        lengths.update(np.unique(block).tolist())
    return {
        length: pieces(length, nearness)
        for length in sorted(lengths)
        if length >= nearness.least_words
    }


def _minhashes(words: Words) -> tuple[Column, ...]:
    """[texts], four columns: the least of four hashes of each text's words."""
    signs = tuple(Column(np.uint32) for _ in range(4))
    for _, hashes, begins, lengths in words.batches():
        texts = np.flatnonzero(lengths)
        for number, column in enumerate(signs):
            found = np.zeros(len(lengths), np.uint32)
            if len(texts):
                salted = mix(hashes.astype(np.uint64) + np.uint64(number << 40))
                # words left out between two texts count to the first of them: no harm is done
                high = (salted >> np.uint64(32)).astype(np.uint32)
                found[texts] = np.minimum.reduceat(high, begins[texts])
            column.append(found)
    return signs
