"""IRC logs as irssi, WeeChat, ZNC, mIRC and HexChat write them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass

from luthier.data.chats.threads import Said
from luthier.data.line_files import each_file
from luthier.data.reading import Place, SourceRow
from luthier.errors import InputError

_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?"
_WHEN = (
    r"(?:\[?(?:(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})[ T]"
    rf"|(?P<name>[A-Z][a-z]{{2}}) (?P<date>\d{{1,2}}) )?{_CLOCK}(?:Z|[+-]\d\d:?\d\d)?\]?)"
)
_LINE = re.compile(rf"{_WHEN}(?P<rest>[ \t].*)")
_SPOKEN = re.compile(r"\s+<[ @+%&~!]?(?P<author>[^\s<>]+)>[ \t]?(?P<text>.*)")
#: WeeChat has the name between tabs, without brackets.
_TABBED = re.compile(r"\t[@+%&~!]?(?P<author>[^\s<>]+)\t(?P<text>.*)")
_ACTION = re.compile(r"(?:\s+\*\s+|\t \*\t)(?P<author>[^\s*]+) (?P<text>.*)")
_ARROWS = ("-->", "<--", "--", "=!=", "*", "***", "-!-")
#: What happened, which nobody said: joins, parts, modes, topics.
_EVENT = re.compile(
    r"\s+(?:-!-|\*\*\*|-->|<--|--|=-=|-\S*-)(?:\s.*|$)"
    r"|\s+\*\s+(?:\S+\s+(?:\([^)]*\)\s+)?(?:has )?(?:joined|left|quit|parted|kicked|sets?|changes"
    r"|is now known as|was kicked|gives|removes|changed)\b|Now talking|Topic|Disconnected"
    r"|Joins:|Parts:|Quits:).*"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
#: Lines that begin a day or a log: "--- Day changed Tue Jan 02 2018".
_DAY = re.compile(
    r"(?:---|\*{4}|Session (?:Start|Close|Ident|Time)|# ?Log).*?"
    r"(?:(?P<name>[A-Z][a-z]{2}) +(?P<date>\d{1,2}),?(?: +\d{1,2}:\d{2}(?::\d{2})?)?"
    r" +(?P<year>\d{4})"
    r"|(?P<iso>\d{4}-\d{2}-\d{2}))"
)
_OTHER = re.compile(r"---|\*{4}|Session |# ?Log")


@dataclass
class _Days:
    """The day that a log is at."""

    day: datetime.date | None = None
    passed: int = 0
    clock: float = -1.0

    def at(self, match: re.Match[str]) -> tuple[float, str]:
        """(seconds, the time for people) of a line; "" where seconds say it."""
        hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
        if hour > 23 or minute > 59 or second > 60:
            raise ValueError
        if match["year"]:
            self.day = datetime.date(*(int(match[name]) for name in ("year", "month", "day")))
        elif match["name"] and self.day is not None:
            self.day = datetime.date(self.day.year, _month(match["name"]), int(match["date"]))
        clock = hour * 3600.0 + minute * 60.0 + second
        if self.day is None:
            # a clock that goes back by hours has passed midnight
            self.passed += clock < self.clock - 3600
            self.clock = clock
            written = f"{hour:02}:{minute:02}" + (f":{second:02}" if match["second"] else "")
            return self.passed * 86400 + clock, f"day {self.passed + 1}, {written}"
        midnight = datetime.datetime.combine(self.day, datetime.time(), datetime.UTC)
        return midnight.timestamp() + clock, ""

    def change(self, match: re.Match[str]) -> None:
        """Go on to the day that a line names."""
        if match["iso"]:
            self.day = datetime.date.fromisoformat(match["iso"])
        else:
            self.day = datetime.date(int(match["year"]), _month(match["name"]), int(match["date"]))


def _month(name: str) -> int:
    return _MONTHS.index(name.lower()) + 1


def is_said(line: str) -> bool:
    """Whether somebody says something in the line."""
    match = _LINE.fullmatch(line)
    return match is not None and _speech(match["rest"]) is not None


def is_log(line: str) -> bool:
    """Whether a log of IRC may have the line."""
    match = _LINE.fullmatch(line)
    if match is None:
        return _OTHER.match(line) is not None
    return _speech(match["rest"]) is not None or _happened(match["rest"])


def irc_messages(rows: Iterator[SourceRow], place: Place) -> Iterator[Said]:
    """What people said; joins, parts and the like are left out.

    Where a log names no days, a clock that goes back begins the next one. A time is local, as the
    log has it. Lines of no known form are refused.
    """
    for name, lines in each_file(rows):
        days = _Days()
        for row in lines:
            line = row.values["text"]
            if not line.strip():
                continue
            match, changed = _LINE.fullmatch(line), _DAY.match(line)
            try:
                if match is None:
                    if changed:
                        days.change(changed)
                    elif not _OTHER.match(line):
                        raise ValueError
                    continue
                seconds, written = days.at(match)
                spoken = _speech(match["rest"])
                if spoken is None and not _happened(match["rest"]):
                    raise ValueError
            except ValueError:
                problem = f"{row.source} is no line of an IRC log: {line[:60]!r}."
                fix = "Logs have lines such as: 12:00 <nick> text"
                place.refuse(row.source, InputError(problem, fix=fix))
                continue
            if spoken is not None and spoken[1].strip():
                yield Said(spoken[0], spoken[1].strip(), seconds, row.source, name, "", written)


def _speech(rest: str) -> tuple[str, str] | None:
    """(who, what) of a line behind its time."""
    if match := _SPOKEN.fullmatch(rest):
        return match["author"], match["text"]
    tabbed = _TABBED.fullmatch(rest)
    if tabbed and tabbed["author"] not in _ARROWS:
        return tabbed["author"], tabbed["text"]
    if not _happened(rest) and (match := _ACTION.fullmatch(rest)):
        return match["author"], f"/me {match['text']}"
    return None


def _happened(rest: str) -> bool:
    return _EVENT.fullmatch(rest) is not None
