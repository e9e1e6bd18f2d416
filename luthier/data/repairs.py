"""Damage in texts that can be mended without a doubt of what was meant."""

from __future__ import annotations

import re
from typing import Any

# UTF-8 read as Windows-1252 turns each character beyond ASCII into a leading sign (a letter with
# an accent, by its byte C2..F4) and one to three signs of the bytes 80..BF, which are these:
_TAIL = "".join(
    character
    for byte in range(0x80, 0xC0)
    for character in {bytes([byte]).decode("cp1252", "ignore"), chr(byte)}
)
_MOJIBAKE = re.compile(
    rf"[\u00c2\u00c3][{re.escape(_TAIL)}]"  # Ã© for é, Â° for °
    rf"|[\u00e2-\u00ed][{re.escape(_TAIL)}]{{2}}"  # â€™ for ’, and most scripts of Asia
    rf"|\u00f0[{re.escape(_TAIL)}]{{3}}"  # emoji
    # Central European, Greek, Cyrillic, Hebrew, Arabic: such a pair can also be a capital before
    # a quotation mark or a fixed space, so one alone says nothing
    rf"|(?P<pair>[\u00c4\u00c5\u00ce-\u00d1\u00d7-\u00d9][{re.escape(_TAIL)}])"
)
#: Control characters besides tab and the ends of lines.
CONTROLS = re.compile(r"[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def mojibake(text: str) -> str | None:
    """The first piece of UTF-8 that was read as Windows-1252 ("Ã©" for "é"), or None."""
    pairs = []
    for match in _MOJIBAKE.finditer(text):
        if _decoded(match[0]) is None:
            continue
        if match["pair"] is None:
            return match[0]
        pairs.append(match[0])
    return pairs[0] if len(pairs) > 1 else None


def mend(text: str) -> tuple[str, tuple[str, ...]]:
    """(the mended text, what was done, in the order it was first done).

    What is done: "mojibake" decoded as it was meant; "surrogates" (halves of characters) and
    "control characters" left out, those of Windows-1252 read as what they stand for; "spaces" at
    the end left out. Mending again changes nothing: it is done until there is nothing to do, and
    every step but the decoding of a control character, which never comes back, makes the text
    shorter.
    """
    done: dict[str, None] = {}
    while True:
        before = text
        for what, step in _STEPS:
            changed = step(text)
            if changed != text:
                done[what] = None
                text = changed
        if text == before:
            return text, tuple(done)


def mend_value(value: Any, where: str = "") -> tuple[Any, list[tuple[str, str, str, str]]]:
    """A cell with the texts in it mended, at any depth.

    Returns:
        the cell, and (place inside it, what was done, text before, text after) of each change; a
        place looks like "[1].content".
    """
    if isinstance(value, str):
        if value.isascii() and value.isprintable() and value[-1:] != " ":
            return value, []
        mended, done = mend(value)
        return mended, [(where, ", ".join(done), value, mended)] if done else []
    changes: list[tuple[str, str, str, str]] = []
    if isinstance(value, list):
        items = []
        for index, item in enumerate(value):
            mended_item, inner = mend_value(item, f"{where}[{index}]")
            items.append(mended_item)
            changes += inner
        return (items, changes) if changes else (value, [])
    if isinstance(value, dict):
        held = {}
        for key, item in value.items():
            held[key], inner = mend_value(item, f"{where}.{key}")
            changes += inner
        return (held, changes) if changes else (value, [])
    return value, []


def _decoded(piece: str) -> str | None:
    """What a piece of mojibake was, or None when its bytes are no UTF-8."""
    try:
        return b"".join(
            bytes([ord(c)]) if ord(c) < 0x100 else c.encode("cp1252") for c in piece
        ).decode()
    except UnicodeError:
        return None


def _without_mojibake(text: str) -> str:
    if text.isascii() or mojibake(text) is None:
        return text
    return _MOJIBAKE.sub(lambda match: _decoded(match[0]) or match[0], text)


def _without_controls(text: str) -> str:
    return CONTROLS.sub(_control, text)


def _control(match: re.Match[str]) -> str:
    # quotation marks and dashes of Windows-1252 that were read as Latin-1
    code = ord(match[0])
    return bytes([code]).decode("cp1252", "ignore") if code >= 0x80 else ""


def _without_surrogates(text: str) -> str:
    return text if text.isascii() else _SURROGATES.sub("", text)


_STEPS = (
    ("surrogates", _without_surrogates),
    ("mojibake", _without_mojibake),
    ("control characters", _without_controls),
    ("spaces", str.rstrip),
)
