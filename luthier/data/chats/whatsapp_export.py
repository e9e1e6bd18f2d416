"""The text of a chat that WhatsApp exports, as iPhones and Android phones write it."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from luthier.data.chats.threads import Said
from luthier.data.line_files import each_file
from luthier.data.reading import Place, SourceRow
from luthier.errors import InputError

_DATE = r"(?P<a>\d{1,4})(?P<part>[./-])(?P<b>\d{1,2})(?P=part)(?P<c>\d{2,4})\.?"
_TIME = (
    r"(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2}))?"
    r"(?:\s?(?P<half>[AaPp])\.?\s?[Mm]\.?)?"
)
_IPHONE = re.compile(rf"\[{_DATE},?\s{_TIME}\]\s?(?P<rest>.*)")
_ANDROID = re.compile(rf"{_DATE},?\s{_TIME}\s[-–]\s(?P<rest>.*)")
#: Who speaks: a name or number. What has no such beginning is the program's.
_AUTHOR = re.compile(r"(?P<author>[^:]{1,100}?): ?(?P<text>.*)")
#: Marks of the direction of writing. iPhones put one before what the program itself says.
_MARKS = "\u200e\u200f\u202a\u202b\u202c\u2068\u2069"
_PROGRAM = re.compile(
    r"<[^<>]*>|null|(?:image|video|audio|sticker|GIF|document|contact card) omitted"
    r"|(?:You deleted this message|This message was deleted|Missed (?:voice|video) call)\b.*",
    re.IGNORECASE,
)
_ATTACHED = re.compile(r"\S.*\.\w{2,4} \([^()]*\)|<attached: [^<>]*>")
_EDITED = re.compile(r"\s*[\u200e]?<This message was edited>\s*$")


@dataclass
class _Entry:
    """A message whose date is not read yet: which number is the day is told by the others."""

    head: re.Match[str]
    source: str
    lines: list[str] = field(default_factory=list)


def is_head(line: str) -> bool:
    """Whether a message, or what the program says, begins with the line."""
    return _head(line) is not None


def whatsapp_messages(rows: Iterator[SourceRow], place: Place) -> Iterator[Said]:
    """The messages of people. System lines, and what stands for pictures and the like, are left
    out; lines without a date go on with the message before.

    Whether dates have the day or the month first is told by those that can be read one way only;
    where there is none, by which order of messages does not go back in time; else it is the month
    with slashes and a clock of twelve hours, and the day in all other cases.

    Lines before the first message, and dates that are none, are refused.
    """
    for _, lines in each_file(rows):
        waiting: list[_Entry] = []
        order: str | None = None
        for entry in _entries(lines, place):
            waiting.append(entry)
            order = order or _order_of(entry)
            if order:
                yield from _said(waiting, order, place)
                waiting = []
        if waiting:
            yield from _said(waiting, _likely(waiting), place)


def _head(line: str) -> re.Match[str] | None:
    plain = line.lstrip(_MARKS).replace("\u202f", " ").replace("\xa0", " ")
    return _IPHONE.match(plain) if plain.startswith("[") else _ANDROID.match(plain)


def _entries(lines: Iterator[SourceRow], place: Place) -> Iterator[_Entry]:
    entry: _Entry | None = None
    for row in lines:
        text = row.values["text"]
        head = _head(text)
        if head is not None:
            if entry is not None:
                yield entry
            entry = _Entry(head, row.source, [head["rest"]])
        elif entry is not None:
            entry.lines.append(text)
        elif text.strip(f"{_MARKS}\ufeff \t"):
            problem = f"{row.source} stands before the first message with a date."
            place.refuse(row.source, InputError(problem, fix="Remove it."))
    if entry is not None:
        yield entry


def _order_of(entry: _Entry) -> str | None:
    """The order that a date has where it can only have one: year, day or month first."""
    if len(entry.head["a"]) > 2:
        return "year"
    first, second = int(entry.head["a"]), int(entry.head["b"])
    if first > 12 >= second:
        return "day"
    return "month" if second > 12 >= first else None


def _likely(entries: list[_Entry]) -> str:
    forward = {}
    for order in ("day", "month"):
        times = [time for time in (_time(entry, order) for entry in entries) if time is not None]
        forward[order] = all(a <= b for a, b in itertools.pairwise(times))
    if forward["day"] != forward["month"]:
        return "day" if forward["day"] else "month"
    head = entries[0].head
    return "month" if head["half"] and head["part"] == "/" else "day"


def _time(entry: _Entry, order: str) -> float | None:
    a, b, c = (int(entry.head[name]) for name in "abc")
    year, month, day = {"year": (a, b, c), "day": (c, b, a), "month": (c, a, b)}[order]
    hour = int(entry.head["hour"])
    if entry.head["half"]:
        hour = hour % 12 + 12 * (entry.head["half"] in "pP")
    try:
        return datetime.datetime(
            year + 2000 * (year < 100), month, day, hour, int(entry.head["minute"]),
            int(entry.head["second"] or 0), tzinfo=datetime.UTC,
        ).timestamp()  # fmt: skip
    except ValueError:
        return None


def _said(entries: list[_Entry], order: str, place: Place) -> Iterator[Said]:
    for entry in entries:
        time = _time(entry, order)
        if time is None:
            problem = f"{entry.source} has a date that is none with the {order} first."
            place.refuse(entry.source, InputError(problem, fix="Mend the date."))
            continue
        match = _AUTHOR.match(entry.lines[0])
        if match is None:
            continue
        text = _text([match["text"], *entry.lines[1:]])
        if text:
            author = match["author"].strip(f"{_MARKS}~ ")
            channel = entry.source.rpartition(" line ")[0]
            yield Said(author, text, time, entry.source, channel)


def _text(lines: list[str]) -> str:
    """What a person wrote; "" where that is nothing."""
    first = lines[0]
    plain = first.strip(f"{_MARKS} ")
    marked = first.lstrip().startswith("\u200e")
    if marked or _PROGRAM.fullmatch(plain) or _ATTACHED.fullmatch(plain):
        lines = lines[1:]  # below a picture there may be words about it
    text = _EDITED.sub("", "\n".join(lines))
    return "".join(one for one in text if one not in _MARKS).strip()
