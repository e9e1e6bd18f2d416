"""What Slack's marks in a text stand for, as people would read it."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Kinds of messages that people write; all others say that something happened, or are programs'.
SPOKEN = (None, "", "me_message", "thread_broadcast", "reply_broadcast", "file_share")

_MARK = re.compile(
    r"<(?:(?P<sort>[@#!])(?P<name>[^<>|\s]+)|(?P<url>(?:https?|ftp|mailto|tel|slack):[^<>|\s]+))"
    r"(?:\|(?P<label>[^<>]*))?>"
)
#: The only characters that Slack writes otherwise.
_ESCAPED = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))


def readable(text: str, names: Mapping[str, str]) -> str:
    """A message's text with its marks resolved: <@U1> to @Ann, <https://x.org|here> to
    here (https://x.org), &lt; to <.

    Args:
        text: as Slack has it.
        names: ids of people to their names; an id that is not there stays.
    """
    parts, at = [], 0
    for match in _MARK.finditer(text):
        parts += [_plain(text[at : match.start()]), _plain(_resolved(match, names))]
        at = match.end()
    return "".join([*parts, _plain(text[at:])]).strip()


def _resolved(match: re.Match[str], names: Mapping[str, str]) -> str:
    label = (match["label"] or "").strip()
    url, name = match["url"], match["name"]
    if url is not None:
        plain = re.sub(r"^(mailto:|tel:)", "", url)
        bare = re.sub(r"^\w+://(www\.)?|/$", "", plain)
        if not label or label in (url, plain) or label.rstrip("/") == bare:
            return plain
        return f"{label} ({plain})"
    if match["sort"] == "@":
        return f"@{names.get(name) or label or name}"
    if match["sort"] == "#":
        return f"#{label or name}"
    if label:  # a group of people, or a date with its text
        return label if label.startswith("@") or name.startswith("date") else f"@{label}"
    return f"@{name.split('^')[0]}"


def _plain(text: str) -> str:
    for written, meant in _ESCAPED:
        text = text.replace(written, meant)
    return text
