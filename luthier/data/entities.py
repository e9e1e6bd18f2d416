"""Named entities as text: from tokens with BIO tags to one line for each entity."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateRuntimeError

#: What is written when a text has no entities: an answer must say something.
NONE = "none"


def entities(tokens: Sequence[Any] | str, tags: Sequence[Any] | str) -> str:
    """Canonical text for tagged tokens: `type: surface text`, one entity a line, in order.

    Tags are BIO (IOB2): `B-type` begins an entity, `I-type` goes on with it, `O` is outside. As
    in the CoNLL evaluation, an `I-type` that follows no entity of its type begins one.

    Args:
        tokens: a list, or text: a JSON list, else words with white space between.
        tags: as many tags, in the same forms.

    Returns:
        the lines, tokens joined by one space; "none" when there are no entities.

    Raises:
        TemplateRuntimeError: different numbers of tokens and tags, or another kind of tag.
    """
    words, marks = _list(tokens), _list(tags)
    if len(words) != len(marks):
        raise TemplateRuntimeError(f"{len(words)} tokens and {len(marks)} tags")
    found: list[tuple[str, list[str]]] = []
    open_type: str | None = None
    for word, mark in zip(words, marks, strict=True):
        if mark == "O":
            open_type = None
            continue
        match = re.fullmatch(r"([BI])-(.+)", mark)
        if match is None:
            raise TemplateRuntimeError(f"the tag {mark!r} is none of B-type, I-type and O")
        prefix, kind = match.groups()
        if prefix == "B" or kind != open_type:
            found.append((kind, []))
        found[-1][1].append(word)
        open_type = kind
    # white space inside a token would break the line
    lines = (f"{kind}: {' '.join(' '.join(parts).split())}" for kind, parts in found)
    return "\n".join(lines) or NONE


def _list(value: Sequence[Any] | str) -> list[str]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                parsed = json.loads(text)
            except ValueError:
                parsed = None
            if isinstance(parsed, list):
                return [str(item) for item in parsed]
        return text.split()
    return [str(item) for item in value]
