"""Rows that lie in a file and are made when they are asked for.

A million examples as Python objects take over a gigabyte. Written as JSON lines to a file of the
cache they take 8 bytes each here, the place of the line, and are read again in some microseconds.
Checks go through them some twenty times, so the way from the line to the row is kept short.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, overload

import numpy as np

from luthier.data.examples import Example, Message
from luthier.files import folder_atomically

T = TypeVar("T")

#: Bytes read at a time where rows are gone through in order.
_BLOCK = 1 << 20
_parse = json.JSONDecoder().raw_decode


class Stored(Sequence[T], Generic[T]):
    """Rows in a folder: `rows.jsonl`, and `places.npy`, where each line begins and the last ends.

    Args:
        folder: written by `store`.
        decode: makes a row of what is on a line.
    """

    def __init__(self, folder: Path, decode: Callable[[Any], T]) -> None:
        self.folder = folder
        self._decode = decode
        self._places = np.load(folder / "places.npy", allow_pickle=False)
        self._starts = memoryview(self._places)  # its items are ints, found faster than numpy's
        self._file = os.open(folder / "rows.jsonl", os.O_RDONLY)

    def __del__(self) -> None:
        if (handle := getattr(self, "_file", None)) is not None:
            os.close(handle)

    def __len__(self) -> int:
        return len(self._places) - 1

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return Chosen(self, range(*index.indices(len(self))))
        return next(self.at((range(len(self))[index],)))

    def at(self, places: Iterable[int]) -> Iterator[T]:
        """The rows at some places, counted from 0, one after another."""
        starts, file, decode = self._starts, self._file, self._decode
        for place in places:
            start = starts[place]
            line = os.pread(file, starts[place + 1] - start, start)
            yield decode(_parse(str(line, "ascii"))[0])

    def __iter__(self) -> Iterator[T]:
        first = 0
        while first < len(self):
            start = int(self._places[first])
            last = int(np.searchsorted(self._places, start + _BLOCK, "right")) - 1
            last = min(max(last, first + 1), len(self))
            block = os.pread(self._file, int(self._places[last]) - start, start)
            for line in str(block, "ascii").splitlines():
                yield self._decode(_parse(line)[0])
            first = last


class Chosen(Sequence[T], Generic[T]):
    """Some items of a sequence, in an order of their own, without a copy of them.

    Args:
        held: the sequence.
        places: of its items.
    """

    def __init__(self, held: Sequence[T], places: Iterable[int]) -> None:
        self.held = held
        self.places = array("q", places)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return Chosen(self.held, self.places[index])
        return self.held[self.places[index]]

    def __iter__(self) -> Iterator[T]:
        if isinstance(self.held, Stored):
            return self.held.at(self.places)
        return (self.held[place] for place in self.places)


class Joined(Sequence[T], Generic[T]):
    """Several sequences, one after another, without a copy of them."""

    def __init__(self, *parts: Sequence[T]) -> None:
        self._parts = parts
        self._ends = list(np.cumsum([len(part) for part in parts], dtype=int).tolist())

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return Chosen(self, range(*index.indices(len(self))))
        place = range(len(self))[index]
        part = bisect_right(self._ends, place)
        return self._parts[part][place - (self._ends[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[T]:
        for part in self._parts:
            yield from part


def chosen_from(held: Sequence[T], places: Sequence[int]) -> Sequence[T]:
    """The items at some places: a tuple, or a view where the sequence lies in a file."""
    if isinstance(held, Stored | Chosen | Joined):
        return Chosen(held, places)
    return tuple(held[place] for place in places)


def store(
    folder: Path,
    rows: Iterable[Any],
    decode: Callable[[Any], T],
    beside: Mapping[str, IO[bytes]] | None = None,
) -> Stored[T]:
    """Write rows to a new folder, which appears when it is whole, and open it.

    Args:
        folder: replaced where it is there.
        rows: what JSON can hold.
        decode: as for `Stored`.
        beside: files that are put into the folder when the rows are written, by their names; each
            is read from its start.

    Raises:
        RunError: the disk is full, or the folder may not be written.
    """
    places = array("q", [0])
    with folder_atomically(folder) as part:
        with (part / "rows.jsonl").open("wb") as file:
            at = 0
            for row in rows:
                line = json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
                file.write(line)
                at += len(line)
                places.append(at)
        for name, content in (beside or {}).items():
            content.seek(0)
            with (part / name).open("wb") as copy:
                shutil.copyfileobj(content, copy)
        np.save(part / "places.npy", np.array(places, np.int64))
    return Stored(folder, decode)


def encode_example(example: Example) -> list[Any]:
    """An example as a line of the store."""
    turns = [[turn.role, turn.content, turn.weight] for turn in example.messages]
    return [turns, *(getattr(example, name) for name in _REST)]


def decode_example(line: list[Any]) -> Example:
    """An example, of what `encode_example` made."""
    turns, *rest = line
    # a frozen dataclass sets its fields one by one through object.__setattr__, which takes longer
    # than all of the reading
    example = object.__new__(Example)
    example.__dict__.update(zip(_REST, rest, strict=True))
    example.__dict__["messages"] = tuple([Message(*turn) for turn in turns])
    return example


#: The fields of an example besides its turns.
_REST = tuple(field.name for field in fields(Example) if field.name != "messages")


def fingerprint(examples: Sequence[Example]) -> str:
    """A hash of all that is in some examples; of stored ones of what they were made of."""
    digest = hashlib.sha256()
    if isinstance(examples, Stored):
        digest.update(examples.folder.name.encode())
    elif isinstance(examples, Chosen) and isinstance(examples.held, Stored):
        digest.update(examples.held.folder.name.encode())
        digest.update(examples.places)
    else:
        for example in examples:
            line = json.dumps(encode_example(example), ensure_ascii=True, default=str)
            digest.update(line.encode() + b"\n")
    return digest.hexdigest()
