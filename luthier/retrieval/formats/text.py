"""Plain text."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.decoding import decode
from luthier.errors import InputError
from luthier.retrieval.documents import KINDS, LABELS, Document, Found, labelled, made_plain
from luthier.retrieval.front_matter import front_matter


@KINDS.register("txt")
def text(found: Found) -> Iterator[Document]:
    """One document, without headings. Front matter is read where it holds labels: passed over, it
    would leave the document open to everybody."""
    kept, hidden = made_plain(decode(found.path.read_bytes(), found.shown))
    try:
        said, body = front_matter(kept, found.shown)
    except InputError:  # lines of dashes around something else
        said, body = {}, kept
    if not any(key.strip().lower() in LABELS for key in said):
        said, body = {}, kept
    yield labelled(Document(found.name, body, suspicious=hidden), said, found.shown)
