"""HTML: what a browser would show, without running or fetching anything."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.decoding import decode
from luthier.errors import InputError
from luthier.retrieval import html_text
from luthier.retrieval.apart import read_apart
from luthier.retrieval.documents import KINDS, Document, Found, labelled, made_plain
from luthier.retrieval.hostile import suspicions

#: Bytes of a page that is read in this process; one that is made to be slow takes seconds then.
SMALL = 100_000


@KINDS.register("html")
def html(found: Found) -> Iterator[Document]:
    """One document. Scripts, styles, navigation and hidden elements are left out."""
    raw = decode(found.path.read_bytes(), found.shown)
    if len(raw) > SMALL:
        fix = "Save the page without what is not its text, or as plain text."
        held = read_apart(found, html_text.__file__, "HTML", fix)
        page = html_text.Page(**held)
    else:
        try:
            page = html_text.page_of(raw)
        except Exception as error:  # the parser's own errors have no common class
            raise InputError(f"{found.shown} cannot be read as HTML: {error}.") from None
    _, hidden = made_plain(raw)
    if page.left_out:
        times = f"{page.left_out} time{'s' * (page.left_out != 1)}"
        hidden = (*hidden, f"hidden: text put where no reader sees it (taken out {times})")
    # closed menus and dialogs are on most pages: these matter by what they say
    if any(suspicions(text) for text in page.unseen):
        hidden = (*hidden, "hidden: an instruction where no reader sees it (taken out)")
    headings = tuple((at, level, said) for at, level, said in page.headings)
    document = Document(found.name, page.text, headings=headings, suspicious=hidden)
    yield labelled(document, {"title": page.title}, found.shown)


KINDS.register("htm")(html)
