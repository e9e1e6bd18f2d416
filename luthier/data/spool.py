"""Rows on their way into a file: kept beside it, so that work that was killed goes on.

While a file is made, `.NAME.part/` lies beside it with the rows so far, the refused ones, and how
far the source was read. The file itself appears whole, at the end, and the folder goes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from luthier.data.refused import MOST_LISTED, Refused, RefusedRow
from luthier.data.writing import Values, json_text
from luthier.errors import InputError, RunError
from luthier.files import disk_errors, read_json, write_json

#: Rows between two notes of how far the work is.
_EVERY = 20_000


@dataclass
class Spool:
    """The rows of one piece of work.

    Attributes:
        rows_file, refused_file: what was written, as JSON Lines.
        taken: rows of the source that are done.
        written: rows that came of them.
        lost: what could not be kept, counted.
        refused: what could not be used; before `go_on` it is empty.
    """

    rows_file: Path
    refused_file: Path
    taken: int = 0
    written: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    refused: Refused = field(default_factory=Refused)
    _key: str = ""
    _rows: BinaryIO | None = None
    _listed: BinaryIO | None = None
    _earlier: dict[str, Any] | None = None

    def go_on(self) -> None:
        """Count refused rows from here; those of the earlier work are taken from its list.

        Whoever goes on goes through the `taken` rows of the source again, and refuses the same.
        """
        held = self._earlier or {"refused": 0, "reasons": {}}
        self.refused.count = held["refused"]
        self.refused.reasons = Counter(held["reasons"])
        self.refused.rows = []
        if held["refused"]:
            with self.refused_file.open("rb") as lines:
                for line, _ in zip(lines, range(min(MOST_LISTED, held["refused"])), strict=False):
                    self.refused.rows.append(RefusedRow(**json.loads(line)))
        self.refused.each = self._refuse

    def add(self, values: Values) -> None:
        """Write one row."""
        assert self._rows is not None
        self._rows.write((json_text(values) + "\n").encode())
        self.written += 1

    def done_with(self, rows: int) -> None:
        """The source is done up to this row; noted now and then."""
        self.taken = rows
        if rows % _EVERY == 0:
            self._note()

    def read(self) -> Iterator[Values]:
        """The rows that were written, from the first."""
        self.flush()
        with self.rows_file.open("rb") as lines:
            for line in lines:
                yield json.loads(line)

    def _refuse(self, row: RefusedRow) -> None:
        assert self._listed is not None
        said = json.dumps(vars(row), ensure_ascii=False).encode("utf-8", errors="replace")
        self._listed.write(said + b"\n")

    def flush(self) -> None:
        """Bring what was written to the disk."""
        for file in (self._rows, self._listed):
            assert file is not None
            file.flush()
            os.fsync(file.fileno())

    def _note(self) -> None:
        self.flush()
        assert self._rows is not None and self._listed is not None
        write_json(
            self.rows_file.with_name("state.json"),
            {
                "key": self._key,
                "taken": self.taken,
                "written": self.written,
                "bytes": self._rows.tell(),
                "refused": self.refused.count,
                "refused_bytes": self._listed.tell(),
                "reasons": dict(self.refused.reasons),
                "lost": dict(self.lost),
            },
        )


@contextlib.contextmanager
def spool_beside(out: Path, key: str | None) -> Iterator[Spool]:
    """The spool of a file that is to be made.

    It is removed when the block ends, well or with an `InputError`; what else ends it (Ctrl-C, a
    full disk) leaves it, and the next work with the same key goes on.

    Args:
        out: the file.
        key: says what the work is; None for work that cannot go on.

    Raises:
        RunError: another process makes the same file, or the disk is full.
    """
    from filelock import FileLock, Timeout

    folder = out.with_name(f".{out.name}.part")
    with disk_errors(out):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"Another process is writing {out}.", fix="Wait for it, or name another file."
            ) from None
        finished = False
        spool = _opened(folder, key)
        try:
            assert spool._rows is not None and spool._listed is not None
            with spool._rows, spool._listed:
                yield spool
            finished = True
        except InputError:
            finished = True
            raise
        finally:
            if finished:
                shutil.rmtree(folder, ignore_errors=True)
            lock.release()
            if finished:  # a lock file may stay for as long as it is held
                shutil.rmtree(folder, ignore_errors=True)


def _opened(folder: Path, key: str | None) -> Spool:
    spool = Spool(folder / "rows.jsonl", folder / "refused.jsonl", _key=key or "")
    held = _state(folder, key)
    if held is not None:
        spool.taken, spool.written = held["taken"], held["written"]
        spool.lost, spool._earlier = Counter(held["lost"]), held
    for path, size in (("rows_file", "bytes"), ("refused_file", "refused_bytes")):
        file = getattr(spool, path).open("ab" if held else "wb")
        if held:  # what came after the last note was perhaps not written whole
            file.truncate(held[size])
            file.seek(held[size])
        setattr(spool, "_rows" if path == "rows_file" else "_listed", file)
    return spool


def _state(folder: Path, key: str | None) -> dict[str, Any] | None:
    """How far earlier work with the same key was; None where there is none to go on with."""
    try:
        held = read_json(folder / "state.json")
        whole = (
            isinstance(held, dict)
            and key is not None
            and held["key"] == key
            and (folder / "rows.jsonl").stat().st_size >= held["bytes"]
            and (folder / "refused.jsonl").stat().st_size >= held["refused_bytes"]
        )
    except (InputError, OSError, KeyError):
        return None
    return held if whole else None
