"""The lock file: which rows were cut for the test and for validation, by their content.

With `data.split.lock` the rows that were once cut stay the test and validation when rows are added,
taken away or put in another order. The file holds hashes, no text, and belongs beside the data, in
version control.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.column import Array, Column, equal_runs, in_order, record, records
from luthier.data.examples import Example
from luthier.data.names import HashNames, Names
from luthier.errors import InputError
from luthier.files import write_atomically

#: The type of a row's hash: hex digits, up to 24.
HASH = np.dtype("S24")
_FORMAT = 1
_HASHED = record(HASH)
_LOCKED = record(HASH, side=np.int32, row=np.int32)
_AT_ONCE = 4096


@dataclass(frozen=True)
class Frozen:
    """What a lock file holds.

    Attributes:
        path: where it is.
        rows: for each split that was cut, the hashes of its rows in order, each as often as it
            occurs.
    """

    path: Path
    rows: dict[str, Column]

    def find(
        self, names: Sequence[str], hashes: Iterable[Array], ids: HashNames | Names
    ) -> Iterator[tuple[Array, Array]]:
        """(rows, the place in `names` of the split of each) of the rows that are locked, in lots.

        Equal rows are told apart by their ids, so that the order of the file does not matter.

        Args:
            names: of the splits, the one that is served first first.
            hashes: of all rows, in lots.
            ids: of the rows.
        """

        def every() -> Iterator[Array]:
            for number, name in enumerate(names):
                for _, block in self.rows[name].blocks():
                    yield records(_LOCKED, key=block, side=_all(block, number), row=_all(block, -1))
            start = 0
            for lot in hashes:
                rows = np.arange(start, start + len(lot))
                yield records(_LOCKED, key=lot, side=_all(lot, -1), row=rows)
                start += len(lot)

        found: list[tuple[int, int]] = []
        wanted = [0] * len(names)
        rows: list[int] = []
        for lot, new in equal_runs(in_order(every())):
            columns = new.tolist(), lot["side"].tolist(), lot["row"].tolist()
            for first, side, row in zip(*columns, strict=True):
                if first and any(wanted):
                    found += _shared_out(wanted, rows, ids)
                    wanted, rows = [0] * len(names), []
                if side >= 0:
                    wanted[side] += 1
                elif any(wanted):  # what is locked comes before the rows of its hash
                    rows.append(row)
            yield _split_up(found)
            found = []
        yield _split_up(_shared_out(wanted, rows, ids))

    def gone(self, name: str, found: int) -> int:
        """How many of a split's rows are gone, of which so many were found.

        Raises:
            InputError: more than half of the rows are gone, so these are other data.
        """
        total = len(self.rows[name])
        gone = total - found
        if 2 * gone > total:
            raise InputError(
                f"{self.path} locks {total} {name} rows, and {gone} of them are not in the "
                "training rows: the data or their template is another one.",
                fix="Put the rows or the template back; or remove the file, and a new "
                f"{name} split is cut whose scores cannot be compared with earlier ones.",
            )
        return gone


def _all(like: Array, value: int) -> Array:
    return np.full(len(like), value, np.int32)


def _shared_out(
    wanted: Sequence[int], rows: Sequence[int], ids: HashNames | Names
) -> Iterator[tuple[int, int]]:
    """(row, split) of equal rows, of which each split wants so many."""
    named = zip(ids.at(np.array(rows, np.int64)), rows, strict=True)
    chosen = iter(heapq.nsmallest(sum(wanted), named))
    for side, count in enumerate(wanted):
        for _, row in islice(chosen, count):
            yield row, side


def _split_up(found: Iterable[tuple[int, int]]) -> tuple[Array, Array]:
    both = np.array([*found], np.int32).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def hashed(names: Iterable[str]) -> Iterator[Array]:
    """Hashes as arrays, some at a time."""
    names = iter(names)
    while some := list(islice(names, _AT_ONCE)):
        yield np.array(some, HASH)


def sorted_hashes(lots: Iterable[Array]) -> Column:
    """Hashes in order, each as often as it occurs."""
    keyed = (records(_HASHED, key=lot) for lot in lots)
    return Column.of(HASH, (lot["key"] for lot in in_order(keyed)))


def read_frozen(path: Path) -> Frozen | None:
    """The lock file at a path, or None where there is none.

    Raises:
        InputError: it is no lock file, or damaged.
    """
    import ijson  # type: ignore[import-untyped]

    if not path.exists():
        return None
    if not path.is_file():
        raise InputError(f"{path} is a folder, and no lock file of splits.", fix="Name a file.")
    rows: dict[str, Column] = {}
    said: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            for where, event, value in ijson.parse(file):
                place, _, name = where.partition(".")
                if place != "rows":
                    if event in ("number", "string"):
                        said[where] = value
                elif event == "map_key":
                    rows[value] = Column(HASH)
                elif event == "string" and name.removesuffix(".item") in rows:
                    rows[name.removesuffix(".item")].add(value.encode("ascii"))
        if said["format"] != _FORMAT or said["check"] != _check(rows):
            raise ValueError
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from None
    except (KeyError, ValueError):
        raise InputError(
            f"{path} is no lock file of splits, or was changed by hand.",
            fix="Put it back from version control; if you remove it, a new test is cut.",
        ) from None
    return Frozen(path, rows)


def write_frozen(path: Path, rows: dict[str, Column]) -> None:
    """Write a lock file, atomically.

    Args:
        path: of the file.
        rows: of each split, as `Frozen.rows`.

    Raises:
        RunError: it cannot be written.
    """
    about = (
        "Rows that luthier cut for validation and test, by hashes of their content. They stay "
        "there when the data grow. Keep this file with the data."
    )

    def write(part: Path) -> None:
        head = json.dumps({"about": about, "format": _FORMAT, "check": _check(rows)}, indent=2)
        with part.open("w", encoding="utf-8") as file:
            file.write(head.removesuffix("\n}") + ',\n  "rows": {')
            for number, (name, held) in enumerate(rows.items()):
                file.write(f"{',' * (number > 0)}\n    {json.dumps(name)}: [")
                for place, row in enumerate(held):
                    file.write(f"{',' * (place > 0)}\n      {json.dumps(row.decode())}")
                file.write("\n    ]" if len(held) else "]")
            file.write("\n  }\n}\n" if rows else "}\n}\n")

    write_atomically(path, write)


def row_hash(example: Example) -> str:
    """A hash of what a row asks and answers, wherever it stands and whatever its id is."""
    said = [[message.role, message.content] for message in example.messages]
    text = json.dumps([said, example.output], ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _check(rows: dict[str, Column]) -> str:
    """A hash of {split: [hashes]} as JSON, written piece by piece."""
    digest = hashlib.blake2b(digest_size=8)
    for number, name in enumerate(sorted(rows)):
        digest.update(f"{', ' if number else '{'}{json.dumps(name)}: [".encode())
        for start, block in rows[name].blocks():
            said = ", ".join(json.dumps(row.decode()) for row in block.tolist())
            digest.update(f"{', ' * (start > 0)}{said}".encode())
        digest.update(b"]")
    digest.update(b"}" if rows else b"{}")
    return digest.hexdigest()
