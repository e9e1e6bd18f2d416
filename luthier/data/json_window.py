"""A JSON document read value by value, so that a list of objects never lies in memory whole.

The standard library's parser reads the values; this file only decides how much text it is given.
(ijson, which reads events, refuses the NaN that Python writes and passes over keys given twice.)
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from luthier.data import lines
from luthier.data.decoding import check_encoding, decode
from luthier.data.reading import Place, twice
from luthier.errors import InputError

_BLOCK = 64 * 2**10
_IN_TEXT, _OUTSIDE = re.compile(r'["\\]'), re.compile(r'["{}\[\],]')
_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class Item:
    """One value: what it is, and the key it names twice where it does; or what is said of one that
    was passed over because it is too long."""

    value: Any
    twice: str | None = None
    too_long: InputError | None = None


class _TooLongError(InputError):
    """A value is longer than `lines.LONGEST` characters."""


class Window:
    """The part of a JSON file that is being read; moves forward only.

    Every method raises `InputError` with line and column for broken JSON, for a value longer than
    `lines.LONGEST` characters, and for nesting too deep to read.
    """

    def __init__(self, place: Place, file: BinaryIO) -> None:
        self._place, self._file = place, file
        self._head = file.read(_BLOCK)
        check_encoding(self._head, place.shown)
        file.seek(0)
        self._text, self._at = "", 0
        self._pending, self._offset = b"", 0  # bytes not yet decoded, and where they begin
        self._lines, self._column = 1, 0  # of the start of the text
        self._twice: str | None = None
        self._decoder = json.JSONDecoder(
            parse_constant=lambda _: None, object_pairs_hook=self._object
        )

    def peek(self) -> str:
        """The next character that is no space; "" at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> None:
        """Read on past one of the characters of `wanted`."""
        found = self.peek()
        if not found or found not in wanted:
            raise self.broken(f"Expecting {' or '.join(map(repr, wanted))}")
        self._at += 1

    def value(self) -> Item:
        """The next value, of any kind."""
        self.peek()
        failed: tuple[int, str] | None = None
        while True:
            self._twice = None
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # it may only be cut off; the same complaint at the same place twice is real
                same = (error.pos - self._at, error.msg)
                cut = same != failed or error.msg.startswith("Unterminated")
                failed = same
                if cut and self._longer():
                    continue
                # the value's beginning moves when there is nothing more to read, too
                raise self.broken(error.msg, self._at + same[0]) from None
            except RecursionError:
                raise InputError(f"{self._where(self._at)}: nested too deeply.") from None
            except ValueError as error:  # a number of too many digits
                raise self.broken(str(error).split(";")[0]) from None
            # a number at the end of the text may go on
            if end < len(self._text) or isinstance(value, dict | list | str) or not self._longer():
                self._at = end
                return Item(value, self._twice)

    def items(self) -> Iterator[Item]:
        """The values of a list, whose bracket comes next, one after another; where rows may be
        refused, those that are too long are passed over."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            try:
                item = self.value()
            except _TooLongError as error:
                if self._place.refused is None:
                    raise
                self.skip()
                item = Item(None, too_long=error)
            yield item
            if self.peek() == "]":
                self.take("]")
                return
            self.take(",]")

    def skip(self) -> None:
        """Read past the value that comes next without keeping it."""
        depth, in_text = 0, False
        while True:
            match = (_IN_TEXT if in_text else _OUTSIDE).search(self._text, self._at)
            if match is None:
                self._at = len(self._text)
                if not self._more():
                    raise self.broken("a value does not end")
                continue
            self._at = match.end()
            found = match.group()
            if found == "\\":  # whatever comes next stands for itself
                if self._at == len(self._text) and not self._more():
                    raise self.broken("a value does not end")
                self._at += 1
            elif found == '"':
                in_text = not in_text
                if not in_text and not depth:
                    return
            elif found in "{[":
                depth += 1
            elif not depth:  # behind a number
                self._at -= 1
                return
            elif found != ",":
                depth -= 1
                if not depth:
                    return

    def pairs(self) -> Iterator[str]:
        """The keys of an object, whose brace comes next; the caller reads each one's value."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                raise self.broken("Expecting property name enclosed in double quotes")
            key = self.value().value
            self.take(":")
            yield key
            if self.peek() == "}":
                self.take("}")
                return
            self.take(",}")

    def broken(self, message: str, at: int | None = None, fix: str = "") -> InputError:
        """The error for broken JSON at a place of the text, here if none is given."""
        return InputError(
            f"{self._where(self._at if at is None else at)}: broken JSON: {message}.", fix=fix
        )

    def _where(self, at: int) -> str:
        before = self._text.rfind("\n", 0, at)
        column = at - before if before >= 0 else self._column + at + 1
        return f"{self._place.shown} line {self._line(at)}, column {column}"

    def _line(self, at: int) -> int:
        return self._lines + self._text.count("\n", 0, at)

    def _longer(self) -> bool:
        """Read more of the value that is being read; False at the end of the file."""
        if len(self._text) - self._at > lines.LONGEST:
            raise _TooLongError(
                f"{self._where(self._at)}: a value is longer than "
                f"{lines.shown_size(lines.LONGEST)}.",
                fix="Cut it into several rows, or write the rows as JSON Lines.",
            )
        return self._more()

    def _more(self) -> bool:
        """Drop what has been read and take more of the file, as much again as is kept."""
        kept = self._text[self._at :]
        self._column = (
            self._at - self._text.rfind("\n", 0, self._at) - 1
            if "\n" in self._text[: self._at]
            else self._column + self._at
        )
        self._lines = self._line(self._at)
        self._text, self._at = kept, 0
        new = self._file.read(max(_BLOCK, len(kept)))
        data = self._pending + new
        if not data:
            return False
        end = len(data)
        if new:  # a character may be cut at the end of the block
            end = _whole_characters(data)
        part = decode(
            data[:end],
            self._place.shown,
            start=self._offset,
            line=self._line(len(kept)),
            head=self._head,
        )
        self._pending, self._offset = data[end:], self._offset + end
        self._text += part
        return bool(new) or bool(part)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            self._twice = twice(pairs)
        return values


def _whole_characters(data: bytes) -> int:
    """How many of the bytes are before the character that the end cuts in two, if it does."""
    try:
        return codecs.utf_8_decode(data, "strict", False)[1]
    except UnicodeDecodeError:
        return len(data)  # `decode` says what is wrong
