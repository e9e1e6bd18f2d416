"""Where an index lies: a folder of this machine, or a prefix of an object store.

Both keep the same promises: index.json is replaced whole or not at all, and there is one writer at
a time. LanceDB reads and writes its tables in either by itself.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from luthier.errors import InputError
from luthier.files import write_atomically

#: What is replaced when a version is made, and the lock of who makes one.
NAME, LOCK, TABLES = "index.json", ".writing.lock", "tables"
#: Tells one index.json from the one that replaces it; empty where there is none.
Stamp = tuple[str | int | None, ...]


class Turn(Protocol):
    """Being the one who writes an index."""

    def still(self) -> None:
        """Make sure of it, before anything is written.

        Raises:
            RunError: another writer took over, because this one stood still for too long.
        """

    def replace(self, data: bytes) -> None:
        """Put another index.json in the place of the one that was there when the turn began.

        Raises:
            RunError: it is not that one any more.
        """


class Place(Protocol):
    """Where an index lies; `str` of it is what people call it."""

    @property
    def tables(self) -> str:
        """Where LanceDB keeps the tables."""

    @property
    def options(self) -> dict[str, str] | None:
        """What LanceDB needs to know to get there."""

    def stamp(self) -> Stamp:
        """Of index.json as it is now."""

    def read(self, name: str) -> bytes | None:
        """A file, or None where there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all."""

    def clear(self, folder: str) -> None:
        """Remove the files of a folder."""

    def names(self) -> set[str]:
        """The files and folders at the top.

        Raises:
            InputError: the place is a file.
        """

    def writing(self) -> AbstractContextManager[Turn]:
        """The only writer, while the block lasts.

        Raises:
            InputError: another process writes.
        """

    def told(self) -> AbstractContextManager[None]:
        """Turn what goes wrong with the place while the block lasts into one clear line."""


def place_at(where: str | Path | Place) -> Place:
    """The place that a path or an address names.

    Raises:
        InputError: an address of no known kind, or one that cannot be used.
        ModelError: the library for object stores is not installed.
    """
    if not isinstance(where, str | Path):
        return where
    if isinstance(where, str) and (scheme := scheme_of(where)):
        from luthier.retrieval.cloud import Bucket

        return Bucket(where, scheme)
    return Folder(Path(where))


def scheme_of(where: str) -> str:
    """What stands before "://", or nothing."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", where)
    return found.group(1).lower() if found else ""


def is_index(where: str | Path | Place) -> bool:
    """Whether there is an index."""
    return bool(place_at(where).stamp())


class Folder:
    """A folder of this machine."""

    options = None

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def tables(self) -> str:
        """See `Place`."""
        return str(self.path / TABLES)

    def stamp(self) -> Stamp:
        """See `Place`."""
        try:
            held = (self.path / NAME).stat()
        except OSError:
            return ()
        return held.st_ino, held.st_mtime_ns, held.st_size

    def read(self, name: str) -> bytes | None:
        """See `Place`."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, data: bytes) -> None:
        """See `Place`."""

        def fill(part: Path) -> None:
            part.write_bytes(data)

        write_atomically(self.path / name, fill)

    def clear(self, folder: str) -> None:
        """See `Place`."""
        shutil.rmtree(self.path / folder, ignore_errors=True)

    def names(self) -> set[str]:
        """See `Place`."""
        if not self.path.exists():
            return set()
        if not self.path.is_dir():
            raise InputError(f"{self} is a file.", fix="Name another folder.")
        return {path.name for path in self.path.iterdir()}

    @contextmanager
    def writing(self) -> Iterator[Turn]:
        """See `Place`. The lock is the system's, and ends with the process that holds it."""
        import filelock

        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / LOCK)
        try:
            with lock.acquire(timeout=0):
                yield _Held(self)
        except filelock.Timeout:
            raise InputError(
                f"Another process is writing {self}.", fix="Wait for it to end, and try again."
            ) from None

    def told(self) -> AbstractContextManager[None]:
        """See `Place`."""
        return contextlib.nullcontext()


class _Held:
    """The turn of who holds a folder's lock, which nobody can take away."""

    def __init__(self, place: Folder) -> None:
        self._place = place

    def still(self) -> None:
        """See `Turn`."""

    def replace(self, data: bytes) -> None:
        """See `Turn`."""
        self._place.write(NAME, data)
