"""A text file line by line: what is read of it at a time is one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from luthier.data.decoding import check_encoding, decode
from luthier.data.reading import Place
from luthier.errors import InputError

#: Longest line, record or item that is read, in bytes or characters.
LONGEST = 64 * 2**20
#: How much of the file's beginning is looked at to tell its encoding, in bytes.
_HEAD = 64 * 2**10


def text_lines(place: Place) -> Iterator[tuple[int, str]]:
    """(line number from 1, the line with its end) of every line, blank ones too.

    Only \\n ends a line: U+2028, which JSON allows in text, and a lone \\r do not. A byte order
    mark is left out.

    Raises:
        InputError: the file is empty or UTF-16; a line that is not UTF-8, holds a NUL, or is
            longer than `LONGEST` bytes is refused (see `Place.refuse`).
    """
    blank = True
    with place.path.open("rb") as file:
        head = file.read(_HEAD)
        check_encoding(head, place.shown)
        file.seek(0)
        start, number = 0, 1
        while data := file.readline(LONGEST + 1):
            size = len(data)
            try:
                if size > LONGEST:
                    size += _skip_line(file) if not data.endswith(b"\n") else 0
                    blank = False
                    raise InputError(
                        f"{place.shown} line {number} is longer than {shown_size(LONGEST)}.",
                        fix="Cut what it holds into several rows, or leave it out.",
                    )
                text = decode(data, place.shown, start=start, line=number, head=head)
            except InputError as error:
                blank = False
                place.refuse(f"{place.shown} line {number}", error)
            else:
                blank = blank and not text.strip()
                yield number, text
            start += size
            number += 1
    if blank:
        raise InputError(f"{place.shown} is empty.", fix="Put rows into it, or name another file.")


def shown_size(size: int) -> str:
    """A cap for people: "64 MB"."""
    return f"{size / 2**20:.0f} MB" if size >= 2**20 else f"{size:,} bytes"


def _skip_line(file: BinaryIO) -> int:
    """Read on to the end of the line without keeping it; how many bytes that was."""
    skipped = 0
    while part := file.readline(2**20):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped
