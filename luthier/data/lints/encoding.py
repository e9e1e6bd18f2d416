"""Text that was decoded wrongly somewhere before it came here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, number, shortened, sources, texts_of

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
_CONTROLS = re.compile(r"[\u0080-\u009f\u0000-\u0008\u000e-\u001f]")


def mojibake(text: str) -> str | None:
    """The first piece of UTF-8 that was read as Windows-1252 ("Ã©" for "é"), or None."""
    pairs = []
    for match in _MOJIBAKE.finditer(text):
        try:
            b"".join(
                bytes([ord(c)]) if ord(c) < 0x100 else c.encode("cp1252") for c in match[0]
            ).decode()
        except UnicodeError:
            continue
        if match["pair"] is None:
            return match[0]
        pairs.append(match[0])
    return pairs[0] if len(pairs) > 1 else None


@LINTS.register("encoding")
def encoding(context: LintContext) -> Iterator[Finding]:
    """Replacement characters, mojibake and control characters in inputs or outputs."""
    rows = {}
    shown = ""
    for example, _, text in texts_of(context.everything):
        damage = "\ufffd" if "\ufffd" in text else None
        damage = damage or (None if text.isascii() else mojibake(text))
        control = _CONTROLS.search(text)
        if damage or control:
            rows[id(example)] = example
            at = text.index(damage) if damage else (control.start() if control else 0)
            shown = shown or shortened(text[max(0, at - 20) : at + 20])
    if rows:
        yield Finding(
            "encoding",
            "warning",
            len(rows),
            sources(rows.values()),
            f"{number(len(rows), 'row')} {'holds' if len(rows) == 1 else 'hold'} text that was "
            f"decoded wrongly, as in {shown!r}. The model reads noise, and learns to write it.",
            "Read the source again as UTF-8 and export it anew; U+FFFD cannot be mended later.",
        )
