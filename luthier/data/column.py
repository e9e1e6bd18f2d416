"""Columns of numbers that lie in a temporary file where there are many, and external sorting.

What is decided of many rows (which are alike, which go together, who is cut) needs some numbers of
each row at once. Up to `IN_MEMORY` numbers of a column are an array; a longer column is a file
without a name, of which `BLOCK` numbers are in memory at a time. The system takes such a file away
when the process ends, however it ends. The file lies in the folder for temporary files (TMPDIR).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from luthier.errors import RunError

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

#: Numbers of a column that are kept in memory.
IN_MEMORY = 1 << 17
#: Numbers that are worked on at a time.
BLOCK = 1 << 16
#: Records that are sorted at a time; also about as many are in memory while runs are merged.
RUN = 1 << 18
#: Numbers that come one by one and wait to be added.
_WAITING = 4096


class Scratch:
    """A temporary file without a name: written at the end or in place, read anywhere."""

    def __init__(self) -> None:
        self._file: IO[bytes] = _opened()
        self.size = 0

    def __del__(self) -> None:
        if (file := getattr(self, "_file", None)) is not None:
            file.close()

    def append(self, data: Array) -> None:
        """Write an array behind what is there."""
        self.write(data, self.size)
        self.size += data.nbytes

    def write(self, data: Array, at: int) -> None:
        """Write an array at a place, counted in bytes."""
        view = np.ascontiguousarray(data).view(np.uint8).data
        with scratch_errors():
            while view:
                done = os.pwrite(self._file.fileno(), view, at)
                view, at = view[done:], at + done

    def read(self, dtype: np.dtype[Any], start: int, stop: int) -> Array:
        """The items of a type from one place to another, counted in items."""
        found = np.empty(stop - start, dtype)
        view, at = found.view(np.uint8).data, start * dtype.itemsize
        while view:
            done = os.preadv(self._file.fileno(), [view], at)
            if not done:
                raise EOFError(f"a temporary file ends at {at}")  # nobody else writes to it
            view, at = view[done:], at + done
        return found


class scratch_errors:  # noqa: N801  (a context manager, read like a function)
    """Turn a full disk into one line that names the folder for temporary files."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise RunError(
                f"Temporary files could not be written to {_folder()}: {error.strerror or error}.",
                fix="Free some space there, or set TMPDIR to a folder on a disk with more "
                "(a million rows of 20 words take about 0.5 GB).",
            ) from error


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # there is none that can be written to
        return "the folder for temporary files"


def _opened() -> IO[bytes]:
    with scratch_errors():
        return tempfile.TemporaryFile(buffering=0)


class Column:
    """Numbers (or short byte strings) one after another, any number of them.

    Args:
        dtype: of the numbers.
        values: the first of them.
    """

    def __init__(self, dtype: npt.DTypeLike, values: Array | None = None) -> None:
        self.dtype = np.dtype(dtype)
        self._held: Array = np.empty(0, self.dtype)
        self._size = 0
        self._file: Scratch | None = None
        self._waiting: list[Any] = []
        if values is not None:
            self.append(values)

    @classmethod
    def full(cls, size: int, value: Any, dtype: npt.DTypeLike) -> Column:
        """A column of one number, so many times."""
        column = cls(dtype)
        for start in range(0, size, BLOCK):
            column.append(np.full(min(BLOCK, size - start), value, column.dtype))
        return column

    @classmethod
    def of(cls, dtype: npt.DTypeLike, lots: Iterable[Array]) -> Column:
        """A column of lots of numbers, one after another."""
        column = cls(dtype)
        for lot in lots:
            column.append(lot)
        return column

    def __len__(self) -> int:
        return self._size + len(self._waiting)

    def add(self, value: Any) -> None:
        """One more."""
        self._waiting.append(value)
        if len(self._waiting) >= _WAITING:
            self._flush()

    def append(self, values: Array) -> None:
        """Some more."""
        self._flush()
        size = self._size + len(values)
        if self._file is None and size > IN_MEMORY:
            self._file = Scratch()
            self._file.append(self._held[: self._size])
            self._held = np.empty(0, self.dtype)
        if self._file is not None:
            self._file.append(values.astype(self.dtype, copy=False))
        else:
            if size > len(self._held):
                room = np.empty(max(size, min(2 * len(self._held), IN_MEMORY)), self.dtype)
                room[: self._size] = self._held[: self._size]
                self._held = room
            self._held[self._size : size] = values
        self._size = size

    def _flush(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self.append(np.array(waiting, self.dtype))

    def read(self, start: int, stop: int) -> Array:
        """The numbers from one place to another; not to be written to."""
        self._flush()
        stop = min(stop, self._size)
        if self._file is None:
            return self._held[start:stop]
        return self._file.read(self.dtype, start, max(start, stop))

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """(place of the first, numbers) of each block."""
        for start in range(0, len(self), BLOCK):
            yield start, self.read(start, start + BLOCK)

    def take(self, places: Array) -> Array:
        """[places] the numbers at some places, in any order."""
        self._flush()
        if self._file is None:
            found: Array = self._held[: self._size][places]
            return found
        found = np.empty(len(places), self.dtype)
        for which, start, stop in _spans(places):
            span = self._file.read(self.dtype, start, stop)
            found[which] = span[places[which] - start]
        return found

    def put(self, places: Array, values: Any) -> None:
        """Write numbers, or one number, to some places; of two for one place the last counts."""
        self._flush()
        if self._file is None:
            self._held[: self._size][places] = values
            return
        values = np.broadcast_to(np.asarray(values, self.dtype), (len(places),))
        for which, start, stop in _spans(places):
            span = self._file.read(self.dtype, start, stop)
            span[places[which] - start] = values[which]
            self._file.write(span, start * self.dtype.itemsize)

    def array(self) -> Array:
        """All of them in memory."""
        return self.read(0, len(self)).copy()

    def __getitem__(self, place: int) -> Any:
        place = range(len(self))[place]
        return self.read(place, place + 1)[0]

    def __iter__(self) -> Iterator[Any]:
        for _, block in self.blocks():
            yield from block.tolist()


def _spans(places: Array) -> Iterator[tuple[Any, int, int]]:
    """(which of the places, the first of them, behind the last) of those in one block."""
    if not len(places):
        return
    which: Any = None
    ordered = places
    if len(places) > 1 and bool((places[1:] < places[:-1]).any()):
        which = np.argsort(places, kind="stable")
        ordered = places[which]
    block = ordered // BLOCK
    edges = np.flatnonzero(block[1:] != block[:-1]) + 1
    for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), len(places)], strict=True):
        some = slice(begin, end) if which is None else which[begin:end]
        yield some, int(ordered[begin]), int(ordered[end - 1]) + 1


def record(key: npt.DTypeLike, **fields: npt.DTypeLike) -> np.dtype[Any]:
    """The type of records that are sorted by their `key`."""
    return np.dtype([("key", key), *fields.items()])


def records(dtype: np.dtype[Any], **fields: Array) -> Array:
    """Records of such a type, of one array for each field."""
    made = np.empty(len(fields["key"]), dtype)
    for name, values in fields.items():
        made[name] = values
    return made


def in_order(lots: Iterable[Array]) -> Iterator[Array]:
    """Records in the order of their keys, in lots; those of one key in the order they came in.

    Sorted runs go to a temporary file and are merged (external merge sort), so memory holds some
    `RUN` records however many there are.
    """
    file: Scratch | None = None
    runs: list[tuple[int, int]] = []
    waiting: list[Array] = []
    size = done = 0
    for lot in lots:
        for first in range(0, len(lot), RUN):
            part = lot[first : first + RUN]
            if size and size + len(part) > RUN:
                file = file or Scratch()
                file.append(_sorted(waiting))
                runs.append((done, done + size))
                done, size, waiting = done + size, 0, []
            waiting.append(part)
            size += len(part)
    if not size:
        return
    last = _sorted(waiting)
    del waiting
    if file is None:
        for first in range(0, len(last), BLOCK):
            yield last[first : first + BLOCK]
        return
    file.append(last)
    runs.append((done, done + size))
    dtype = last.dtype
    del last
    each = max(1, RUN // len(runs))
    heads = [_Head(file, dtype, start, stop, each) for start, stop in runs]
    while heads := [head for head in heads if len(head.records)]:
        bound = min(head.records["key"][-1] for head in heads)
        # all below the bound are known; of those at it more may come, run by run
        below = [head.taken("left", bound) for head in heads]
        if any(map(len, below)):
            yield _sorted(below)
        for head in heads:
            while len(head.records) and head.records["key"][0] == bound:
                yield head.taken("right", bound)


class _Head:
    """The front of a sorted run."""

    def __init__(
        self, file: Scratch, dtype: np.dtype[Any], start: int, stop: int, each: int
    ) -> None:
        self._file, self._dtype, self._each = file, dtype, each
        self._start, self._stop = start, stop
        self.records: Array = np.empty(0, dtype)
        self._fill()

    def _fill(self) -> None:
        end = min(self._stop, self._start + self._each)
        self.records = self._file.read(self._dtype, self._start, end)
        self._start = end

    def taken(self, side: Any, bound: Any) -> Array:
        """Take the records up to a key, without or with (right) those of it, of the front."""
        stop = int(np.searchsorted(self.records["key"], bound, side))
        some, self.records = self.records[:stop], self.records[stop:]
        if not len(self.records):
            self._fill()
        return some


def _sorted(parts: list[Array]) -> Array:
    joined = np.concatenate(parts)
    found: Array = joined[np.argsort(joined["key"], kind="stable")]
    return found


def equal_runs(lots: Iterable[Array]) -> Iterator[tuple[Array, Bools]]:
    """(records, which of them have another key than the one before) of sorted lots."""
    last: Any = None
    for lot in lots:
        key = lot["key"]
        new = np.ones(len(key), bool)
        new[1:] = key[1:] != key[:-1]
        new[0] = last is None or key[0] != last
        last = key[-1]
        yield lot, new
