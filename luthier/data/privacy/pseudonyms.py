"""Pseudonyms for personal data, the table of them, and the way back.

A value becomes "[PERSON_k3f7qa2m]": its kind, and a code made from it with a secret key. Without
the table nothing leads back. With it the same value has the same pseudonym in every file and every
text comes back as it was. Secrets become "[API_KEY]" and never come back.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import re
import secrets
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from luthier.data.privacy.finding import kinds
from luthier.data.privacy.spans import Span
from luthier.errors import InputError, RunError
from luthier.files import write_atomically

#: A pseudonym. Values that differ in case, spaces and signs alone share the code; those behind the
#: first one also have a number.
PSEUDONYM = re.compile(r"\[[A-Z][A-Z0-9_]{1,30}_[a-z2-7]{8}(?:\.[1-9]\d{0,8})?\]")
_KEY_BYTES, _CODE_BYTES = 32, 5
_VERSION = 1
#: Files that say that a folder is a run or a task.
_MARKS = ("manifest.json", "task.yaml")


@cache
def stands_for() -> re.Pattern[str]:
    """What stands in the place of a value: a pseudonym, or a kind of secret in brackets."""
    masks = "|".join(sorted(name for name, kind in kinds().items() if kind.level == "secret"))
    return re.compile(rf"{PSEUDONYM.pattern}|\[(?:{masks})\]")


class Pseudonyms:
    """A table of values and their pseudonyms.

    Args:
        key: makes the codes; without one a new one is drawn.
        values: pseudonym -> value.
    """

    def __init__(self, key: bytes | None = None, values: dict[str, str] | None = None) -> None:
        self._key = key or secrets.token_bytes(_KEY_BYTES)
        self.values = dict(values or {})
        self._of = {(_kind(name), value): name for name, value in self.values.items()}

    def of(self, span: Span) -> str:
        """What to write in a span's place, the same for the same value each time."""
        if kinds()[span.type].level == "secret":
            return f"[{span.type}]"
        known = self._of.get((span.type, span.text))
        if known is None:
            base = f"{span.type}_{self._code(span)}"
            known, number = f"[{base}]", 0
            while known in self.values:
                number += 1
                known = f"[{base}.{number}]"
            self._of[span.type, span.text] = known
            self.values[known] = span.text
        return known

    def replace(self, text: str, spans: Sequence[Span]) -> str:
        """A text with spans of it, which are in order and apart, replaced."""
        pieces, at = [], 0
        for span in spans:
            pieces += [text[at : span.start], self.of(span)]
            at = span.end
        return "".join(pieces) + text[at:] if pieces else text

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(kind, value) of all values."""
        return iter(list(self._of))

    def restore(self, text: str) -> str:
        """A text with the values back in the place of their pseudonyms; unknown ones stay."""
        return self.restored(text)[0]

    def restored(self, text: str) -> tuple[str, int, int]:
        """(the text with the values back, how many those were, how many pseudonyms are not in the
        table and stay)."""
        back = unknown = 0

        def value(match: re.Match[str]) -> str:
            nonlocal back, unknown
            known = match[0] in self.values
            back, unknown = back + known, unknown + (not known)
            return self.values.get(match[0], match[0])

        return (PSEUDONYM.sub(value, text) if "[" in text else text), back, unknown

    def _code(self, span: Span) -> str:
        folded = unicodedata.normalize("NFKC", span.text).casefold()
        plain = "".join(c for c in folded if c.isalnum() or c == "@") or span.text
        said = f"{span.type}\0{plain}".encode("utf-8", "surrogatepass")
        digest = hmac.digest(self._key, said, "sha256")
        return base64.b32encode(digest[:_CODE_BYTES]).decode().lower()

    def save(self, path: Path) -> None:
        """Write the table, readable by its owner alone (mode 0600)."""
        document = {"version": _VERSION, "key": self._key.hex(), "values": self.values}
        # escapes only: half characters are values too
        text = json.dumps(document, indent=1, ensure_ascii=True)
        write_atomically(path, lambda part: _write(part, text), mode=0o600)

    @classmethod
    def load(cls, path: Path) -> Pseudonyms:
        """Read a table that `save` wrote.

        Raises:
            InputError: there is none, or it is something else.
        """
        try:
            document: Any = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"{path} cannot be read: {error.strerror}.",
                fix="Name the table that `luthier redact ... --map` wrote.",
            ) from None
        except (ValueError, RecursionError):
            document = None
        try:
            if document["version"] != _VERSION:
                raise ValueError
            key, values = bytes.fromhex(document["key"]), document["values"]
            if len(key) != _KEY_BYTES or not all(
                PSEUDONYM.fullmatch(name) and isinstance(value, str)
                for name, value in values.items()
            ):
                raise ValueError
        except (TypeError, KeyError, ValueError, AttributeError):
            raise InputError(
                f"{path} is no table of pseudonyms.",
                fix="Name the one that `luthier redact ... --map` wrote, or a new file.",
            ) from None
        return cls(key, values)


def _kind(pseudonym: str) -> str:
    return pseudonym[1:].rpartition("_")[0]


def _write(part: Path, text: str) -> None:
    part.write_text(text, encoding="utf-8")


def check_apart(table: Path, data: Sequence[Path]) -> None:
    """Raise `InputError` where a table would lie beside data, or anywhere in a run or a task.

    Whoever gets the folder of the data would get the values with it.

    Args:
        table: where the table is to be.
        data: the files that are read and written.
    """
    place = table.resolve().parent
    for folder in (place, *place.parents):
        mark = next((name for name in _MARKS if (folder / name).is_file()), None)
        if mark is not None:
            raise _inside(table, f"{folder} holds a {mark}")
    for path in data:
        if place in (path.resolve(), path.resolve().parent):
            raise _inside(table, f"it is in the folder of {path}")


def _inside(table: Path, why: str) -> InputError:
    return InputError(
        f"The table of pseudonyms must lie apart from the data, and {table} does not: {why}.",
        fix=f"Name a place of its own, such as --map ~/.luthier/pseudonyms/{table.name}",
    )


@contextlib.contextmanager
def table_at(path: Path) -> Iterator[Pseudonyms]:
    """The table at a path, or a new one, held against other processes. The caller saves it.

    Raises:
        InputError: what is there is no table.
        RunError: another process works with it.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"), mode=0o600)
    try:
        with lock.acquire(timeout=0):
            yield Pseudonyms.load(path) if path.exists() else Pseudonyms()
    except Timeout:
        raise RunError(
            f"Another process works with {path}.", fix="Wait for it, or name another table."
        ) from None
