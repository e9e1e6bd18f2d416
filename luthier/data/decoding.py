"""Bytes to text: UTF-8 or a clear word about what the bytes are instead."""

from __future__ import annotations

import codecs

from luthier.errors import InputError


def check_encoding(head: bytes, shown: str) -> None:
    """Raise `InputError` when the first bytes of a file say that it is UTF-16 or UTF-32.

    Args:
        head: the file, or its beginning.
        shown: its name, for messages.
    """
    for mark, name in (
        (codecs.BOM_UTF32_LE, "UTF-32"),
        (codecs.BOM_UTF32_BE, "UTF-32"),
        (codecs.BOM_UTF16_LE, "UTF-16"),
        (codecs.BOM_UTF16_BE, "UTF-16"),
    ):
        if head.startswith(mark):
            raise InputError(
                f"{shown} is {name} (its byte order mark at byte 0 says so), not UTF-8.",
                fix=_convert(name, shown),
            )
    nul = head.find(b"\0")
    if nul >= 0 and head.count(b"\0") * 4 > len(head):
        raise InputError(
            f"{shown} is not UTF-8: byte {nul} is NUL and so are many more, as in UTF-16.",
            fix=_convert("UTF-16LE" if nul % 2 else "UTF-16BE", shown),
        )


def decode(data: bytes, shown: str, *, start: int = 0, line: int = 1, head: bytes = b"") -> str:
    """The bytes as text; a byte order mark is accepted and left out.

    Args:
        data: a whole file, or a part of one that begins and ends between two characters.
        shown: its name, for messages.
        start, line: where in the file the part begins: its byte from 0, its line from 1.
        head: the beginning of the file, which helps to tell what its encoding is.

    Raises:
        InputError: not UTF-8 (the message names the byte, the line and the likely encoding), or
            NUL bytes inside.
    """
    if start == 0:
        check_encoding(head or data, shown)
    nul = data.find(b"\0")
    if nul >= 0:
        raise InputError(
            f"{shown} line {line + _newlines(data, nul)}: byte {start + nul} is NUL, which "
            "no text holds.",
            fix="The file is damaged or is no text file; write it again from where it came from.",
        )
    marked = start == 0 and data.startswith(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8-sig" if marked else "utf-8")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the mark
        at = error.start + (len(codecs.BOM_UTF8) if marked else 0)
        if at >= len(data) - 3 and error.reason == "unexpected end of data":
            raise InputError(
                f"{shown} ends in the middle of a character (byte {start + at}).",
                fix="It was probably cut off while it was copied; copy it again.",
            ) from None
        likely = _likely(data if start == 0 else head + data)
        raise InputError(
            f"{shown} line {line + _newlines(data, at)}: byte {start + at} "
            f"(0x{data[at]:02X}) is not UTF-8; "
            + (f"the file is probably {likely}." if likely else "its encoding is unclear."),
            fix=_convert(likely or "ENCODING", shown),
        ) from None


def _newlines(data: bytes, end: int) -> int:
    return data.count(b"\n", 0, end)


def _convert(encoding: str, shown: str) -> str:
    return f"Convert it: iconv -f {encoding} -t UTF-8 '{shown}' > converted"


def _likely(data: bytes) -> str | None:
    """The encoding that bytes which are not UTF-8 are most likely in, or None when unclear.

    Western European text has a few high bytes among many ASCII letters; when most letters are
    high bytes the file is in another script, and a guess would be wrong as often as right.
    """
    high = sum(byte >= 0x80 for byte in data)
    letters = sum(chr(byte).isalpha() for byte in data if byte < 0x80)
    if high > letters:
        return None
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "ISO-8859-1"
    return "WINDOWS-1252"
