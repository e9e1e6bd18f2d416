"""PDF, read in a process of its own: a file that hangs or swells takes nothing down with it."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.errors import InputError
from luthier.retrieval import pdf_text
from luthier.retrieval.apart import read_apart
from luthier.retrieval.documents import KINDS, Document, Found, labelled, made_plain

_PAGES = 5000


@KINDS.register("pdf")
def pdf(found: Found) -> Iterator[Document]:
    """One document; each page begins a heading "page N" below the outermost."""
    fix = "Check that it was copied whole, or print it to a new PDF."
    held = read_apart(found, pdf_text.__file__, "PDF", fix, _PAGES)
    text = ""
    headings: list[tuple[int, int, str]] = []
    hidden: tuple[str, ...] = ()
    for number, page in enumerate(held["pages"], 1):
        kept, signs = made_plain(page)
        hidden = (*hidden, *signs)
        headings.append((len(text), 6, f"page {number}"))
        text += kept.strip("\n") + "\n\n"
    if held["hidden"]:
        hidden = (*hidden, f"hidden: {held['hidden']} characters that no reader sees (taken out)")
    if not text.strip():
        raise InputError(
            f"{found.shown} holds no text.", fix="It may be scanned: run text recognition on it."
        )
    document = Document(found.name, text, headings=tuple(headings), suspicious=hidden)
    title = made_plain(held["title"])[0].strip()
    yield labelled(document, {"title": title}, found.shown)
