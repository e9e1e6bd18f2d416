"""The names of many rows, kept outside memory or as numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
import numpy.typing as npt

from luthier.data.column import Column, equal_runs, scratch_errors
from luthier.data.numbered import keyed

#: Bytes of names that are kept in memory before they go to a file.
_IN_MEMORY = 1 << 20
_BLOCK = 1 << 16
#: Names that are made at a time.
_AT_ONCE = 4096


class Names(Sequence[str]):
    """Texts one after another in a temporary file, and in another where each begins."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._places = Column(np.int64, np.zeros(1, np.int64))
        self._end = 0

    def add(self, name: str) -> None:
        """One more; not after one was read."""
        data = name.encode("utf-8", "surrogatepass")
        with scratch_errors():
            self._file.write(data)
        self._end += len(data)
        self._places.add(self._end)

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
        begin, end = self._places.read(place, place + 2).tolist()
        return self._read(begin, end)

    def at(self, places: npt.NDArray[np.integer]) -> list[str]:
        """The names at some places."""
        begins, ends = self._places.take(places), self._places.take(places + 1)
        return [self._read(*one) for one in zip(begins.tolist(), ends.tolist(), strict=True)]

    def _read(self, begin: int, end: int) -> str:
        self._file.seek(begin)
        return self._file.read(end - begin).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            places = self._places.read(first, first + _AT_ONCE + 1)
            start = 0
            while start < len(places) - 1:
                # long names one by one, short ones many at a time
                stop = int(np.searchsorted(places, places[start] + _BLOCK, "right")) - 1
                stop = max(stop, start + 1)
                base = int(places[start])
                self._file.seek(base)
                block = self._file.read(int(places[stop]) - base)
                for begin, end in pairwise((places[start : stop + 1] - base).tolist()):
                    yield block[begin:end].decode("utf-8", "surrogatepass")
                start = stop


class HashNames(Sequence[str]):
    """Names that are hashes of the rows' content in 16 hex digits; equal ones are told apart by
    -2, -3, ... in the order of the rows. 12 bytes a row, in a file where there are many.

    Args:
        keys: [rows] the hashes.
    """

    def __init__(self, keys: Column) -> None:
        self.keys = keys
        self._which = Column.full(len(keys), 0, np.int32)
        before = 0
        for lot, new in equal_runs(keyed(keys)):
            place = np.arange(len(lot))
            begins = np.maximum.accumulate(np.where(new, place, -1))
            which = np.where(begins < 0, before + 1 + place, place - begins + 1)
            self._which.put(lot["row"], which)
            before = int(which[-1])

    def at(self, places: npt.NDArray[np.integer]) -> list[str]:
        """The names at some places."""
        keys, which = self.keys.take(places).tolist(), self._which.take(places).tolist()
        return list(map(_named, keys, which))

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return _named(int(self.keys[index]), int(self._which[index]))

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            keys, which = (
                self.keys.read(some.start, some.stop),
                self._which.read(some.start, some.stop),
            )
            yield from map(_named, keys.tolist(), which.tolist())


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
