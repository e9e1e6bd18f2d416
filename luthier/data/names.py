"""The names of many rows, kept outside memory or as numbers."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
import numpy.typing as npt

from luthier.data.numbered import Keys

#: Bytes of names that are kept in memory before they go to a file.
_IN_MEMORY = 1 << 20
_BLOCK = 1 << 16
#: Names that are made at a time.
_AT_ONCE = 4096


class Names(Sequence[str]):
    """Texts one after another in a temporary file; memory holds 8 bytes for each."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._places = array("q", [0])

    def add(self, name: str) -> None:
        """One more; not after one was read."""
        data = name.encode("utf-8", "surrogatepass")
        self._file.write(data)
        self._places.append(self._places[-1] + len(data))

    def __len__(self) -> int:
        return len(self._places) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        self._file.seek(self._places[place])
        data = self._file.read(self._places[place + 1] - self._places[place])
        return data.decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        first, places = 0, np.frombuffer(self._places, np.int64)
        while first < len(self):
            start = int(places[first])
            last = int(np.searchsorted(places, start + _BLOCK, "right")) - 1
            last = min(max(last, first + 1), len(self))
            self._file.seek(start)
            block = self._file.read(int(places[last]) - start)
            ends = (places[first : last + 1] - start).tolist()
            for begin, end in pairwise(ends):
                yield block[begin:end].decode("utf-8", "surrogatepass")
            first = last


class HashNames(Sequence[str]):
    """Names that are hashes of the rows' content in 16 hex digits; equal ones are told apart by
    -2, -3, ... in the order of the rows. 12 bytes a row.

    Args:
        keys: [rows] the hashes.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        new = np.ones(len(keys), bool)
        new[1:] = ordered[1:] != ordered[:-1]
        begins: npt.NDArray[np.int64] = np.flatnonzero(new)
        self._which = np.empty(len(keys), np.int32)
        which = np.arange(len(keys)) - np.repeat(begins, np.diff(begins, append=len(keys)))
        self._which[order] = which + 1

    def hash_at(self, place: int) -> str:
        """The hash of one, without what tells it apart from equal ones."""
        return _named(int(self._keys[place]), 1)

    def hashes(self) -> Iterator[str]:
        """The hashes alone, equal ones as they are."""
        for first in range(0, len(self), _AT_ONCE):
            yield from (_named(key, 1) for key in self._keys[first : first + _AT_ONCE].tolist())

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return _named(int(self._keys[index]), int(self._which[index]))

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            keys, which = self._keys[some].tolist(), self._which[some].tolist()
            yield from map(_named, keys, which)


class At(Sequence[str]):
    """The names at some places, without a copy of them."""

    def __init__(self, names: Sequence[str], places: npt.NDArray[np.integer]) -> None:
        self._names, self._places = names, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return At(self._names, self._places[index])
        return self._names[int(self._places[index])]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            for place in self._places[first : first + _AT_ONCE].tolist():
                yield self._names[place]


def _named(key: int, which: int) -> str:
    return f"{key:016x}" if which == 1 else f"{key:016x}-{which}"
