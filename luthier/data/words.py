"""Texts as sequences of word hashes, kept outside memory where there are many.

A million texts of 170 words are 680 MB of 32-bit hashes; they and what is known of each text lie in
temporary files and are read batch by batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from luthier.data.column import Column
from luthier.data.folding import fold
from luthier.data.numbered import firsts, hash64

#: Texts hashed at a time.
BATCH = 8192
CHARACTERS = 1 << 20
#: Characters of texts that are hashed at a time, which takes some 60 bytes each.
HASHED = 1 << 17
#: Fewer texts than this are not searched for words that all begin or end with.
FEWEST_TO_COMPARE = 10
#: Bytes of word hashes that are all read into memory when words of single texts are asked for.
IN_MEMORY = 16 << 20

Hashes = npt.NDArray[np.uint32]
Indices = npt.NDArray[np.int64]

_BASE = np.uint64(0x9E3779B97F4A7C15)
# Scripts that put no space between words: each character counts as a word.
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff])")


# What joins the parts of one word: well-known, U.S., and/or.
_INNER = re.compile(r"(?<=[^\W\d_])[-\u2010\u2011.·/](?=[^\W\d_])")


def folded_words(text: str) -> str:
    """The words of a text folded (`folding.fold`), one space between them.

    A word with hyphens, points or strokes inside is one; characters of Chinese, Japanese, Thai,
    Lao, Burmese and Khmer stand alone.
    """
    folded = fold(_INNER.sub("", text))
    if folded.isascii():
        return folded
    return " ".join(_UNSPACED.sub(r" \1 ", folded).split())


class Words:
    """The distinct texts of a sequence, folded, as word hashes.

    A word's hash has 31 bits of its UTF-8 bytes, and its lowest bit says whether a digit is in it.

    Attributes:
        text_of: [rows], for each row the number of its distinct text, int32.
        row_of: [distinct], the first row of each distinct text, int32.
        hashes: [distinct], 64 bits of each distinct folded text.
        lengths: [distinct], words of each distinct text, int32.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        keys, lengths = Column(np.uint64), Column(np.int32)
        self._hashes = Column(np.uint32)
        waiting: list[str] = []
        size = 0

        def add() -> None:
            keys.append(np.fromiter(map(hash64, waiting), np.uint64, len(waiting)))
            hashes, counts = hash_words(waiting)
            self._hashes.append(hashes)
            lengths.append(counts)

        for text in texts:
            waiting.append(folded_words(text))
            size += len(waiting[-1])
            if len(waiting) >= BATCH or size > HASHED:
                add()
                waiting, size = [], 0
        add()
        self._number(keys, lengths)
        self._whole: Hashes | None = None

    def _number(self, keys: Column, lengths: Column) -> None:
        """Number the distinct texts in the order in which they first come."""
        first = firsts(keys)
        number = Column(np.int32)
        self.row_of, self.hashes = Column(np.int32), Column(np.uint64)
        self.lengths, self._begins = Column(np.int32), Column(np.int64)
        kept = Column(np.uint32)
        done = begin = 0
        for start, block in first.blocks():
            stop = start + len(block)
            own = block == np.arange(start, stop)
            number.append(len(self.row_of) + np.cumsum(own) - 1)
            self.row_of.append(start + np.flatnonzero(own))
            self.hashes.append(keys.read(start, stop)[own])
            counts = lengths.read(start, stop)
            ends = np.cumsum(counts, dtype=np.int64)
            new = counts[own]
            self.lengths.append(new)
            self._begins.append(begin + np.cumsum(new, dtype=np.int64) - new)
            begin += int(new.sum(dtype=np.int64))
            at = 0
            while at < len(block):  # not more words at a time than make a lot
                before = int(ends[at - 1]) if at else 0
                end = max(at + 1, int(np.searchsorted(ends, before + CHARACTERS, "right")))
                held = self._hashes.read(done + before, done + int(ends[end - 1]))
                kept.append(held[np.repeat(own[at:end], counts[at:end])])
                at = end
            done += int(ends[-1])
        self._hashes, self._words = kept, begin
        self.text_of = Column.of(np.int32, (number.take(block) for _, block in first.blocks()))

    def __len__(self) -> int:
        return len(self.hashes)

    def without_common_ends(self) -> None:
        """Leave out the words that every text begins with, and those that every text ends with.

        Nothing is left out of fewer than ten texts: what those share may be what they say.
        """
        if len(self) < FEWEST_TO_COMPARE:
            return
        first = self.padded(np.zeros(1, np.int64), int(self.lengths[0]))[0]
        shortest = min(int(block.min()) for _, block in self.lengths.blocks())
        front = back = shortest
        for number, hashes, begins, lengths in self.batches():
            del number
            ends = begins + lengths - 1
            for place in range(front):
                if (hashes[begins + place] != first[place]).any():
                    front = place
                    break
            for place in range(back):
                if (hashes[ends - place] != first[-1 - place]).any():
                    back = place
                    break
            if not front and not back:
                return
        back = min(back, shortest - front)
        self._begins = Column.of(np.int64, (block + front for _, block in self._begins.blocks()))
        less = np.int32(front + back)
        self.lengths = Column.of(np.int32, (block - less for _, block in self.lengths.blocks()))

    def batches(self) -> Iterator[tuple[int, Hashes, Indices, Indices]]:
        """(number of the first text, word hashes of some texts in a row, [texts] where each begins
        in them, [texts] words of each)."""
        # as many texts as make a lot of words, so that both short and long ones are worked on well
        mean = max(1, self._words // max(1, len(self)))
        lot = max(1, min(4 * BATCH, 8 * CHARACTERS // 4 // mean))
        for first in range(0, len(self), lot):
            lengths = self.lengths.read(first, first + lot).astype(np.int64)
            begins = self._begins.read(first, first + lot)
            start = int(begins[0])
            hashes = self._hashes.read(start, int(begins[-1] + lengths[-1]))
            yield first, hashes, begins - start, lengths

    def padded(self, texts: Indices, width: int) -> Hashes:
        """[texts, width] word hashes, 0 behind the end of a text (no word's hash is 0)."""
        table = np.zeros((len(texts), width), np.uint32)
        if self._words * 4 <= IN_MEMORY:
            if self._whole is None:
                self._whole = self._hashes.read(0, self._words)
            inside = np.arange(width) < self.lengths.take(texts)[:, None]
            places = self._begins.take(texts)[:, None] + np.arange(width)
            table[inside] = self._whole[places[inside]]
            return table
        distinct, places = np.unique(texts, return_inverse=True)
        rows = np.zeros((len(distinct), width), np.uint32)
        begins = self._begins.take(distinct)
        ends = begins + np.minimum(width, self.lengths.take(distinct))
        for place, some in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
            row = self._hashes.read(*some)
            rows[place, : len(row)] = row
        table[:] = rows[places]
        return table


def hash_words(texts: Sequence[str]) -> tuple[Hashes, npt.NDArray[np.int32]]:
    """(the hashes of all words of some texts, words of each text).

    Args:
        texts: words separated by single spaces, without line breaks.
    """
    if not texts:
        return np.zeros(0, np.uint32), np.zeros(0, np.int32)
    joined = ("\n".join(texts) + "\n").encode("utf-8", "surrogatepass")
    data = np.frombuffer(joined, np.uint8)
    line = data == 10
    gap = line | (data == 32)
    begins = ~gap
    begins[1:] &= gap[:-1]
    starts = np.flatnonzero(begins)
    ends = np.flatnonzero(line)
    counts = np.diff(np.searchsorted(starts, ends), prepend=0).astype(np.int32)
    if not len(starts):
        return np.zeros(0, np.uint32), counts
    # polynomial hash of each word's bytes, modulo 2^64
    word_of = np.cumsum(begins) - 1
    place = np.arange(len(data)) - starts[np.maximum(word_of, 0)]
    powers = _powers(int(place.max()) + 1)
    value = (data.astype(np.uint64) + np.uint64(1)) * powers[np.maximum(place, 0)]
    value[gap] = 0
    mixed = mix(np.add.reduceat(value, starts))
    digit = (data >= 48) & (data <= 57)
    has_digit = np.add.reduceat(digit.astype(np.uint8), starts) > 0
    hashes = (mixed >> np.uint64(32)).astype(np.uint32) & np.uint32(0xFFFFFFFE)
    hashes[hashes == 0] = 2
    return hashes | has_digit.astype(np.uint32), counts


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread the bits of 64-bit numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _powers(count: int) -> npt.NDArray[np.uint64]:
    powers = np.full(count, _BASE, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)
