"""Word documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from luthier.data.reading import Place
from luthier.data.safe_zip import check_zip
from luthier.errors import InputError
from luthier.retrieval.documents import KINDS, Document, Found, labelled, made_plain

#: Points of the smallest letters that somebody reads.
_SMALLEST = 2
_WHITE = "FFFFFF"


@KINDS.register("docx")
def docx(found: Found) -> Iterator[Document]:
    """One document: paragraphs and tables in their order. Hidden runs are left out."""
    import docx as word
    from docx.table import Table

    check_zip(Place(found.shown, found.path))
    try:
        held = word.Document(str(found.path))
        blocks = list(held.iter_inner_content())
    except Exception as error:  # the library's own errors have no common class
        raise InputError(
            f"{found.shown} cannot be read as a Word document: {error}.",
            fix="Check that it was copied whole, and save it again as .docx.",
        ) from None
    text, left_out = "", 0
    headings: list[tuple[int, int, str]] = []
    hidden: tuple[str, ...] = ()
    for block in blocks:
        if isinstance(block, Table):
            lines = [" | ".join(cell.text for cell in row.cells) for row in block.rows]
            said = "\n".join(lines)
        else:
            shown = [run for run in block.runs if not _unseen(run)]
            left_out += len(block.runs) - len(shown)
            said = "".join(run.text for run in shown) if block.runs else block.text
        kept, signs = made_plain(said)
        hidden = (*hidden, *signs)
        level = _level(block)
        if level and kept.strip():
            headings.append((len(text), level, kept.strip()))
        text += kept + "\n\n" * bool(kept.strip())
    if left_out:
        hidden = (*hidden, f"hidden: {left_out} runs that no reader sees (taken out)")
    title = (held.core_properties.title or "").strip()
    document = Document(found.name, text, headings=tuple(headings), suspicious=hidden)
    yield labelled(document, {"title": title}, found.shown)


def _unseen(run: Any) -> bool:
    """Whether no reader sees it: hidden, of the paper's colour, or too small. White letters on a
    dark ground of their own (a highlight, a shaded run) are seen."""
    font = run.font
    if font.hidden:
        return True
    if font.size is not None and font.size.pt < _SMALLEST:
        return True
    white = font.color is not None and font.color.rgb is not None and str(font.color.rgb) == _WHITE
    ground = font.highlight_color is not None or run._element.xpath(".//w:shd")
    return bool(white and not ground and not run._element.xpath("ancestor::w:tc"))


def _level(block: Any) -> int | None:
    style = getattr(getattr(block, "style", None), "name", "") or ""
    if style == "Title":
        return 1
    found = re.fullmatch(r"Heading (\d)", style)
    return int(found.group(1)) if found else None
