"""The pages of a PDF as text: a program of its own, run with limits (`apart.py`).

    python -I pdf_text.py FILE MEMORY_BYTES SECONDS MOST_CHARACTERS MOST_PAGES

Prints JSON: {"title", "pages", "hidden"}. It follows no link, runs no script and opens no other
file.

Text that no person sees is left out and counted in "hidden": letters smaller than a point, in the
invisible mode (3), or white where nothing dark was painted below. A page with a picture on which
nearly all text is invisible is a scan with the text that was recognised in it, and is kept. Not
looked into: text that a page takes from elsewhere in the file (form objects), and text that
something is painted over.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

_SMALLEST = 1.0
_WHITE = 0.97
_SCAN = 0.9
_SHOWING = (b"Tj", b"TJ", b"'", b'"')
#: Which operators set the colour letters are filled with: "grey", "rgb", "cmyk", or any of them.
_COLOURS = {b"g": 1, b"rg": 3, b"k": 4, b"sc": 0, b"scn": 0}


class Seen:
    """Follows a page's operators, and blanks what nobody sees.

    Args:
        scan: keep invisible letters: they are what the picture of a scan shows.
    """

    def __init__(self, scan: bool = False) -> None:
        self.scan = scan
        self.mode, self.size, self.white = 0, 12.0, False
        self.grounds: list[tuple[float, float, float, float]] = []
        self.picture = False
        self.path: list[tuple[float, float, float, float]] = []
        self.kept: list[tuple[int, float, bool]] = []
        self.invisible = self.left_out = self.shown = 0

    def __call__(self, operator: bytes, operands: Any, cm: list[float], tm: list[float]) -> None:
        """Take one operator before it is carried out."""
        # a damaged operator shows nothing that could be judged
        with contextlib.suppress(TypeError, ValueError, IndexError, AttributeError):
            self._take(operator, operands, cm, tm)

    def _take(self, operator: bytes, operands: Any, cm: list[float], tm: list[float]) -> None:
        if operator == b"q":
            self.kept.append((self.mode, self.size, self.white))
        elif operator == b"Q" and self.kept:
            self.mode, self.size, self.white = self.kept.pop()
        elif operator == b"Tr":
            self.mode = int(operands[0])
        elif operator == b"Tf":
            self.size = abs(float(operands[1]))
        elif operator in _COLOURS:
            self.white = self._is_white(operator, operands)
        elif operator in (b"Do", b"sh", b"INLINE IMAGE"):
            self.picture = True
        elif operator == b"re":
            self.path.append(_box(operands, cm))
        elif operator in (b"f", b"F", b"f*", b"B", b"B*", b"b", b"b*"):
            if not self.white:
                self.grounds += self.path
            self.path = []
        elif operator in (b"n", b"S", b"s"):
            self.path = []
        elif operator in _SHOWING:
            self._show(operator, operands, cm, tm)

    def _is_white(self, operator: bytes, operands: Any) -> bool:
        values = [float(value) for value in operands if isinstance(value, int | float)]
        count = _COLOURS[operator] or len(values)
        if len(values) < count or count not in (1, 3, 4):
            return False
        if count == 4:
            return max(values[:4]) <= 1 - _WHITE
        return min(values[:count]) >= _WHITE

    def _show(self, operator: bytes, operands: Any, cm: list[float], tm: list[float]) -> None:
        count = _characters(operands)
        scale = max(abs(tm[3]), abs(tm[1]), 1e-6) * max(abs(cm[3]), abs(cm[1]), 1e-6)
        self.shown += count
        if self.mode == 3:
            self.invisible += count
        tiny = 0 < self.size * scale < _SMALLEST
        x, y = _at(tm[4], tm[5], cm)
        ground = self.picture or any(a <= x <= c and b <= y <= d for a, b, c, d in self.grounds)
        white = self.white and self.mode in (0, 4) and not ground
        if tiny or white or (self.mode == 3 and not self.scan):
            self.left_out += count
            _blank(operator, operands)


def _characters(operands: Any) -> int:
    texts = operands[-1] if isinstance(operands[-1], list) else operands
    return sum(len(one) for one in texts if isinstance(one, str | bytes))


def _blank(operator: bytes, operands: Any) -> None:
    if operator == b"TJ":
        # the distances between letters stay: what comes after stands where it stood
        operands[0][:] = [one for one in operands[0] if not isinstance(one, str | bytes)]
    else:
        operands[-1] = type(operands[-1])()


def _at(x: float, y: float, cm: list[float]) -> tuple[float, float]:
    return x * cm[0] + y * cm[2] + cm[4], x * cm[1] + y * cm[3] + cm[5]


def _box(operands: Any, cm: list[float]) -> tuple[float, float, float, float]:
    x, y, width, height = (float(value) for value in operands[:4])
    a, b = _at(x, y, cm), _at(x + width, y + height, cm)
    return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])


def text_of(page: Any) -> tuple[str, int]:
    """(the text of a page that people see, how many characters of it they do not)."""
    seen = Seen()
    text = page.extract_text(visitor_operand_before=seen) or ""
    if seen.picture and seen.invisible > _SCAN * seen.shown:
        seen = Seen(scan=True)
        text = page.extract_text(visitor_operand_before=seen) or ""
    return text, seen.left_out


def main() -> None:
    """Read one file within limits; see above."""
    path, memory, seconds, most_characters, most_pages = sys.argv[1], *map(int, sys.argv[2:6])
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from luthier.retrieval.limits import bounded

    bounded(memory, seconds)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    from pypdf import PdfReader

    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise SystemExit("it is protected by a password")
    if len(reader.pages) > most_pages:
        raise SystemExit(f"it has {len(reader.pages):,} pages; {most_pages:,} are read at most")
    info: Any = reader.metadata or {}
    pages, hidden, length = [], 0, 0
    for page in reader.pages:
        text, left_out = text_of(page)
        pages.append(text)
        hidden += left_out
        length += len(text)
        if length > most_characters:
            raise SystemExit(f"it holds more than {most_characters:,} characters of text")
    title = str(info.get("/Title") or "")[:1000]
    json.dump({"title": title, "pages": pages, "hidden": hidden}, sys.stdout)


if __name__ == "__main__":
    main()
