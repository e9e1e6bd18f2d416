"""Tables: each row is a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from luthier.data.reading import stream_rows
from luthier.errors import InputError
from luthier.retrieval.documents import KINDS, LABELS, Document, Found, labelled, made_plain

#: Columns that are taken for the text, the id and the title, in this order.
_TEXT = ("text", "content", "body", "passage", "context", "document", "contents")
#: Tables of questions and answers: the answer is the text, below its question.
_ANSWER, _QUESTION = "answer", "question"
_ID = ("id", "_id", "doc_id", "document_id", "url")
_TITLE = ("title", "heading", "name")


@KINDS.register("jsonl")
def rows(found: Found) -> Iterator[Document]:
    """A document for each row. Columns `access`, `valid_from` and `valid_to` are its labels, all
    others metadata."""
    seen: set[str] = set()
    for number, row in enumerate(stream_rows(found.path.name, found.path.parent), 1):
        try:
            yield _document(found, number, dict(row.values), seen)
        except InputError as error:
            if found.refused is None:
                raise
            found.refused.add(f"{found.shown} row {number}", error)
            found.unread.add(f"{found.name}#{_own(dict(row.values), number)[0]}")


def _own(values: Mapping[str, object], number: int) -> tuple[str, str | None]:
    """(what a row is called in its file, the column that says so)."""
    key = next((name for name in _ID if values.get(name) not in (None, "")), None)
    return (str(values[key]) if key else str(number)), key


def _document(found: Found, number: int, values: dict[str, Any], seen: set[str]) -> Document:
    """The document of one row."""
    texts = (*_TEXT, _ANSWER)
    column = next((name for name in texts if isinstance(values.get(name), str)), None)
    if column is None:
        raise InputError(
            f"{found.shown} row {number} has no column with its text.",
            fix=f"Name it one of {', '.join(texts)}.",
        )
    text, hidden = made_plain(values.pop(column))
    own, key = _own(values, number)
    if key:
        del values[key]
    if own in seen:
        raise InputError(
            f"{found.shown} row {number} has the same id {own!r} as a row before it.",
            fix="Make the ids unique.",
        )
    seen.add(own)
    titles = (_QUESTION, *_TITLE) if column == _ANSWER else _TITLE
    title = next((str(values[n]) for n in titles if isinstance(values.get(n), str)), "")
    headings = ((0, 1, title),) if title else ()
    where = f"{found.name} row {number}"
    name = f"{found.name}#{own}"
    # the place of a row changes with every row that is taken out before it; its id stays
    source = name if key else where
    document = Document(name, text, source, headings=headings, suspicious=hidden)
    # a label that is a table is refused, not passed over
    simple = {
        k: v for k, v in values.items() if not isinstance(v, dict) or k.strip().lower() in LABELS
    }
    return labelled(document, simple, where)


for _ending in ("csv", "tsv", "parquet"):
    KINDS.register(_ending)(rows)
