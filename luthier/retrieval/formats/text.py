"""Plain text."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.decoding import decode
from luthier.retrieval.documents import KINDS, Document, Found, made_plain


@KINDS.register("txt")
def text(found: Found) -> Iterator[Document]:
    """One document, without headings."""
    kept, hidden = made_plain(decode(found.path.read_bytes(), found.shown))
    yield Document(found.name, kept, suspicious=hidden)
