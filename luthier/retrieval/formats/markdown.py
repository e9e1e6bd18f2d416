"""Markdown, with headings and front matter."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.decoding import decode
from luthier.retrieval.documents import KINDS, Document, Found, labelled, made_plain
from luthier.retrieval.front_matter import front_matter

_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r"^(=+|-+)[ \t]*$")
_FENCE = re.compile(r"^[ \t]{0,3}(```+|~~~+)")
#: What a browser does not show.
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@KINDS.register("md")
def markdown(found: Found) -> Iterator[Document]:
    """One document; YAML between two lines of `---` at its start are its labels and metadata."""
    raw = decode(found.path.read_bytes(), found.shown)
    kept, hidden = made_plain(raw)
    said, body = front_matter(kept, found.shown)
    comments = _COMMENT.findall(body)
    body = _COMMENT.sub("", body)
    if any(len(comment) > 40 for comment in comments):
        hidden = (*hidden, "hidden: a comment that no reader sees (taken out)")
    headings = tuple(headings_of(body))
    title = said.pop("title", None) or next((h for _, level, h in headings if level == 1), None)
    document = Document(found.name, body, headings=headings, suspicious=hidden)
    return iter([labelled(document, {**said, "title": title}, found.shown)])


def headings_of(text: str) -> Iterator[tuple[int, int, str]]:
    """(offset of the line, level, text) of each heading; those in code are none."""
    at, fence, before = 0, "", ("", 0)
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and (not fence or mark.group(1).startswith(fence)):
            fence = "" if fence else mark.group(1)
        elif not fence:
            if heading := _HEADING.match(line):
                yield at, len(heading.group(1)), heading.group(2)
            elif (under := _UNDERLINE.match(line)) and _may_be_heading(before[0]):
                yield before[1], 1 if under.group(1)[0] == "=" else 2, before[0].strip()
        before = (line, at)
        at += len(line) + 1


def _may_be_heading(line: str) -> bool:
    plain = bool(line.strip()) and not line.startswith(("-", ">", "|", " "))
    return plain and not _HEADING.match(line)
