"""The keys by which near-duplicates are found (`near_duplicates`), in lots that fit in memory.

Keys are laid out in temporary files by their bits, so that equal ones are in one file, and each
file is small enough to be sorted at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from luthier.data.column import Scratch
from luthier.data.numbered import Codes, Keys
from luthier.data.words import Words, mix
from luthier.progress import Bar

#: Keys of a lot.
AT_ONCE = 1_000_000
#: Files that are open at a time; of more lots the keys are made several times.
MOST_FILES = 256

_BASE = 0xD1342543DE82EF95
_INVERSE = pow(_BASE, -1, 1 << 64)


def keys_of(
    words: Words, plan: dict[int, list[tuple[int, int]]], bar: Bar
) -> Iterator[tuple[Keys, Codes]]:
    """(hashes of pieces with one word left out, the text each is of), in lots: equal hashes are in
    one lot.

    Args:
        words: the texts.
        plan: the pieces, (start, length), of texts of each length.
        bar: advances by two for each text.
    """
    counts: Counter[int] = Counter()
    for _, block in words.lengths.blocks():
        held, times = np.unique(block, return_counts=True)
        counts.update(dict(zip(held.tolist(), times.tolist(), strict=True)))
    total = sum(counts[n] * sum(size + 1 for _, size in cut) for n, cut in plan.items())
    lots = max(1, -(-total // AT_ONCE))
    for first in range(0, lots, MOST_FILES):
        these = range(first, min(lots, first + MOST_FILES))
        files = [Scratch() for _ in these]
        for records in _records(words, plan, bar, len(these) / lots):
            _lay_out(records, lots, these, files)
        while files:
            file = files.pop(0)
            record = file.read(_RECORD, 0, file.size // _RECORD.itemsize)
            del file
            keys, owners = record["key"].copy(), record["owner"].copy()
            del record
            yield keys, owners
            bar.advance(len(words) / lots)


def _records(
    words: Words, plan: dict[int, list[tuple[int, int]]], bar: Bar, share: float
) -> Iterator[npt.NDArray[np.void]]:
    """The keys of all texts and whose they are, some at a time."""
    for first, hashes, begins, lengths in words.batches():
        for length in np.unique(lengths).tolist():
            if not (cut := plan.get(length)):
                continue
            texts = np.flatnonzero(lengths == length)
            at_once = max(1, AT_ONCE // 8 // length)
            for begin in range(0, len(texts), at_once):
                some = texts[begin : begin + at_once]
                table = hashes[begins[some][:, None] + np.arange(length)].astype(np.uint64)
                owners = (some + first).astype(np.int32)
                for start, size in cut:
                    piece = table[:, start : start + size]
                    if whole := size == length:
                        # "item 7 is a lamp" and "item 9 is a sofa" fill in one pattern
                        piece = np.where(piece & np.uint64(1), np.uint64(1), piece)
                    made = _left_out(piece, whole)
                    record = np.empty(made.size, _RECORD)
                    record["key"], record["owner"] = made.ravel(), owners.repeat(made.shape[1])
                    yield record
        bar.advance(share * len(lengths))


def _lay_out(
    record: npt.NDArray[np.void], lots: int, these: range, files: Sequence[Scratch]
) -> None:
    """Write keys to the files of some of the lots."""
    if lots == 1:
        files[0].append(record)
        return
    lot = ((record["key"] >> np.uint64(32)) % np.uint64(lots)).astype(np.int32)
    order = np.argsort(lot, kind="stable")
    record, lot = record[order], lot[order]
    ends = np.searchsorted(lot, np.arange(these.start, these.stop + 1))
    for number, file in enumerate(files):
        file.append(record[ends[number] : ends[number + 1]])


_RECORD = np.dtype([("key", np.uint64), ("owner", np.int32)])


def _left_out(table: npt.NDArray[np.uint64], whole: bool) -> Keys:
    """[texts, words (+ 1)]: hashes of each row without each of its words (and of all of it)."""
    size = table.shape[1]
    powers = np.full(size, np.uint64(_BASE))
    powers[0] = 1
    powers = np.multiply.accumulate(powers)
    sums = np.cumsum(table * powers, axis=1)
    before = np.concatenate((np.zeros((len(table), 1), np.uint64), sums[:, :-1]), axis=1)
    without = before + (sums[:, -1:] - sums) * np.uint64(_INVERSE)
    return mix(np.concatenate((without, sums[:, -1:]), axis=1) if whole else without)
