"""Numbers in place of values, where there are too many for a dictionary of Python objects."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from luthier.data.column import Column, equal_runs, in_order, record, records

Keys = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int32]


def hash64(text: str) -> int:
    """64 bits of a text."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class Numbered:
    """64-bit keys, numbered from 0 in the order in which they first come.

    12 bytes for each distinct key, and as many again while two sorted runs become one (a
    log-structured merge: runs double, so each key is moved a logarithmic number of times).
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Keys, Codes]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def of(self, keys: Keys) -> Codes:
        """[keys] their numbers; new ones are given the next."""
        found = np.full(len(keys), -1, np.int32)
        for known, numbers in self._runs:
            place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            hit = known[place] == keys
            found[hit] = numbers[place[hit]]
        new = np.flatnonzero(found < 0)
        if len(new):
            distinct, first, back = np.unique(keys[new], return_index=True, return_inverse=True)
            numbers = np.empty(len(distinct), np.int32)
            numbers[np.argsort(first)] = np.arange(self._count, self._count + len(distinct))
            found[new] = numbers[back]
            self._count += len(distinct)
            self._runs.append((distinct, numbers))
            while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
                self._merge()
        return found

    def _merge(self) -> None:
        (keys, numbers), (few, their) = self._runs[-2:]
        place = np.searchsorted(keys, few) + np.arange(len(few))
        old = np.ones(len(keys) + len(few), bool)
        old[place] = False
        merged = np.empty(len(old), np.uint64)
        merged[place], merged[old] = few, keys
        del keys
        counted = np.empty(len(old), np.int32)
        counted[place], counted[old] = their, numbers
        self._runs[-2:] = [(merged, counted)]

    def keys(self) -> Keys:
        """[distinct] the keys by their numbers."""
        keys = np.empty(self._count, np.uint64)
        for known, numbers in self._runs:
            keys[numbers] = known
        return keys


class Numbering:
    """Texts that come one after another, each as the row of the first that is equal.

    A text is known by 64 bits of it: of a million texts two are taken for one with a chance of one
    in forty million.
    """

    def __init__(self) -> None:
        self._keys = Column(np.uint64)
        self._named = Column(bool)

    def add(self, text: str | None) -> None:
        """The next text; None for none, whose number is -1."""
        self._keys.add(0 if text is None else hash64(text))
        self._named.add(text is not None)

    def codes(self) -> Column:
        """[texts] of all texts so far the first row of each, int32; -1 where there is none."""
        return firsts(self._keys, self._named)


_KEYED = record(np.uint64, row=np.int32)


def keyed(keys: Column, counted: Column | None = None) -> Iterator[npt.NDArray[np.void]]:
    """The keys of rows with their rows, in the order of the keys; equal ones in that of the rows.

    Args:
        keys: [rows] 64 bits each.
        counted: [rows] which are wanted; all without it.
    """

    def every() -> Iterator[npt.NDArray[np.void]]:
        for start, block in keys.blocks():
            rows = np.arange(start, start + len(block), dtype=np.int32)
            lot = records(_KEYED, key=block, row=rows)
            yield lot if counted is None else lot[counted.read(start, start + len(block))]

    return in_order(every())


def firsts(keys: Column, counted: Column | None = None) -> Column:
    """[rows] the first row with the same key, int32; -1 where a row is not counted."""
    found = Column.full(len(keys), -1, np.int32)
    last = -1
    for lot, new in equal_runs(keyed(keys, counted)):
        rows = lot["row"]
        begins = np.maximum.accumulate(np.where(new, np.arange(len(rows)), -1))
        first = np.where(begins < 0, last, rows[begins])
        found.put(rows, first)
        last = int(first[-1])
    return found


class Occurrences:
    """How often each of many texts came; 16 bytes for each distinct one."""

    def __init__(self) -> None:
        self._numbered = Numbered()
        self._counts = np.zeros(1024, np.int32)

    def count(self, texts: Sequence[str]) -> list[int]:
        """For each of some more texts how often it came by now, this time included."""
        codes = self._numbered.of(np.fromiter(map(hash64, texts), np.uint64, len(texts)))
        if len(self._numbered) > len(self._counts):
            more = np.zeros(len(self._numbered), np.int32)
            self._counts = np.concatenate((self._counts, more))
        found = []
        for code in codes.tolist():
            self._counts[code] += 1
            found.append(int(self._counts[code]))
        return found


@dataclass(frozen=True)
class Coded:
    """A column of few different texts.

    Attributes:
        names: the different texts, in order.
        codes: [rows] places in `names`.
    """

    names: tuple[str, ...]
    codes: Codes

    def counts(self, rows: npt.NDArray[np.integer] | None = None) -> dict[str, int]:
        """How many rows have each of the names that any has."""
        codes = self.codes if rows is None else self.codes[rows]
        found = np.bincount(codes, minlength=len(self.names)).tolist()
        return {name: count for name, count in zip(self.names, found, strict=True) if count}


def coded(texts: Iterable[str]) -> Coded:
    """A column of texts."""
    places: dict[str, int] = {}
    codes = array("i", (places.setdefault(text, len(places)) for text in texts))
    names = tuple(places)
    ordered = tuple(sorted(names))
    place = {name: number for number, name in enumerate(ordered)}
    table = np.array([place[name] for name in names], np.int32)
    return Coded(ordered, table[np.array(codes, np.int32)] if len(codes) else table)
