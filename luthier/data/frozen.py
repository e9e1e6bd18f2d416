"""The lock file: which rows were cut for the test and for validation, by their content.

With `data.split.lock` the rows that were once cut stay the test and validation when rows are added,
taken away or put in another order. The file holds hashes, no text, and belongs beside the data, in
version control.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from luthier.data.examples import Example
from luthier.errors import InputError
from luthier.files import read_json, write_json

_FORMAT = 1


@dataclass(frozen=True)
class Frozen:
    """What a lock file holds.

    Attributes:
        path: where it is.
        rows: for each split that was cut, the hashes of its rows and how often each occurs.
    """

    path: Path
    rows: dict[str, Counter[str]]

    def holds(self, row: str, names: Iterable[str]) -> bool:
        """Whether one of these splits has a row of this hash."""
        return any(row in self.rows[name] for name in names)

    def find(
        self, name: str, hashes: Mapping[int, str], free: Iterable[int]
    ) -> tuple[list[int], int]:
        """(the rows of a split among those that are free, how many of its rows are gone).

        Args:
            name: of the split.
            hashes: of the rows.
            free: rows, in the order in which they are taken.

        Raises:
            InputError: more than half of the rows are gone, so these are other data.
        """
        wanted = Counter(self.rows[name])
        total = sum(wanted.values())
        found = []
        for row in free:
            if wanted[hashes[row]] > 0:
                wanted[hashes[row]] -= 1
                found.append(row)
        gone = total - len(found)
        if 2 * gone > total:
            raise InputError(
                f"{self.path} locks {total} {name} rows, and {gone} of them are not in the "
                "training rows: the data or their template is another one.",
                fix="Put the rows or the template back; or remove the file, and a new "
                f"{name} split is cut whose scores cannot be compared with earlier ones.",
            )
        return found, gone


def read_frozen(path: Path) -> Frozen | None:
    """The lock file at a path, or None where there is none.

    Raises:
        InputError: it is no lock file, or damaged.
    """
    if not path.exists():
        return None
    if not path.is_file():
        raise InputError(f"{path} is a folder, and no lock file of splits.", fix="Name a file.")
    held = read_json(path)
    try:
        if held["format"] != _FORMAT:
            raise ValueError
        rows = {name: Counter(map(str, hashes)) for name, hashes in held["rows"].items()}
        if held["check"] != _check(rows):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{path} is no lock file of splits, or was changed by hand.",
            fix="Put it back from version control; if you remove it, a new test is cut.",
        ) from None
    return Frozen(path, rows)


def write_frozen(path: Path, rows: dict[str, Counter[str]]) -> None:
    """Write a lock file, atomically.

    Raises:
        RunError: it cannot be written.
    """
    write_json(
        path,
        {
            "about": "Rows that luthier cut for validation and test, by hashes of their content. "
            "They stay there when the data grow. Keep this file with the data.",
            "format": _FORMAT,
            "check": _check(rows),
            "rows": {name: sorted(held.elements()) for name, held in rows.items()},
        },
    )


def row_hash(example: Example) -> str:
    """A hash of what a row asks and answers, wherever it stands and whatever its id is."""
    said = [[message.role, message.content] for message in example.messages]
    text = json.dumps([said, example.output], ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _check(rows: dict[str, Counter[str]]) -> str:
    text = json.dumps({name: sorted(held.elements()) for name, held in sorted(rows.items())})
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
