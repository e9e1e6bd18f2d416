"""Times as people write them, as seconds since 1970 in UTC."""

from __future__ import annotations

import datetime
import email.utils
import math
import re
from collections.abc import Iterable

import numpy as np

from luthier.data.column import Column
from luthier.errors import InputError

_UTC = datetime.UTC
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
#: Ways to write a date, none of which can be read as another date by somebody else.
_WRITTEN = (
    "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y", "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S", "%m %d, %Y", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y",
    "%b %d %Y", "%B %d %Y", "%Y-%m-%d %H:%M:%S %Z", "%a %b %d %H:%M:%S %Y", "%Y%m%d",
)  # fmt: skip
_ORDERS = ("day", "month", None)
_SLASHES = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})\b(.*)")


def parse_time(value: object) -> float | None:
    """Seconds since 1970, or None for what is no time.

    Takes ISO 8601, seconds, milliseconds, microseconds or nanoseconds since 1970 (as Slack's
    "1517320000.000123"; by their size, from 1973 on), a year, RFC 2822 (mail), and dates with the
    year or the month's name to tell the order of day and month. A time without a zone is UTC.
    """
    if isinstance(value, bool) or value is None:
        return None
    text = str(value).strip()
    if _NUMBER.fullmatch(text):
        return _from_number(text)
    try:
        return _seconds(datetime.datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        pass
    for form in _WRITTEN:
        try:
            return _seconds(datetime.datetime.strptime(text, form))
        except (ValueError, OverflowError):
            continue
    try:
        return _seconds(email.utils.parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class Times:
    """The times of rows that come one after another.

    Dates such as 3/4/2021 are read with the month first or the day first, whichever suits all rows;
    which that is shows at the end, so until then such a date is kept in both readings.
    """

    def __init__(self) -> None:
        self._found = Column(np.float64)
        self._wrong = _Wrong()
        # of dates with slashes: the row, and the time by each reading
        self._slashed = Column(np.int64)
        self._readings = {order: Column(np.float64) for order in _ORDERS}
        self._wrong_by = {order: _Wrong() for order in _ORDERS}
        self._first = self._second = 0

    def __len__(self) -> int:
        return len(self._found)

    def add(self, value: object, source: str) -> None:
        """The time of one more row: what the column holds, and where the row was read."""
        row = len(self._found)
        match = _SLASHES.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            time = parse_time(value)
            if time is None:
                self._wrong.add(row, value, source)
            self._found.add(math.nan if time is None else time)
            return
        self._found.add(math.nan)
        self._slashed.add(row)
        self._first = max(self._first, int(match[1]))
        self._second = max(self._second, int(match[2]))
        written = {
            "day": f"{match[3]}/{match[2]}/{match[1]}{match[4]}",
            "month": f"{match[3]}/{match[1]}/{match[2]}{match[4]}",
            None: value,
        }
        for order, text in written.items():
            time = parse_time(text)
            self._readings[order].add(math.nan if time is None else time)
            if time is None:
                self._wrong_by[order].add(row, text, source)

    def read(self, where: str) -> Column:
        """[rows] seconds since 1970.

        Args:
            where: the key and column, for messages.

        Raises:
            InputError: rows whose time cannot be read, counted and named.
        """
        order = None
        if self._first > 12 >= self._second:
            order = "day"
        elif self._second > 12 >= self._first:
            order = "month"
        slashed = self._wrong_by[order]
        if count := self._wrong.count + slashed.count:
            shown = ", ".join(said for _, said in sorted([*self._wrong.some, *slashed.some])[:5])
            raise InputError(
                f"`{where}`: {count} of {len(self)} rows have no time that can be read: "
                f"{shown}{', ...' * (count > 5)}.",
                fix="Whether day or month comes first cannot be told: write 2021-04-03."
                if order is None and slashed.count
                else "Write times as 2021-04-03 or 2021-04-03T12:00:00Z, or as seconds since 1970.",
            )
        for start, rows in self._slashed.blocks():
            self._found.put(rows, self._readings[order].read(start, start + len(rows)))
        return self._found


class _Wrong:
    """Rows without a time: how many, and the first five."""

    def __init__(self) -> None:
        self.count = 0
        self.some: list[tuple[int, str]] = []

    def add(self, row: int, value: object, source: str) -> None:
        self.count += 1
        if len(self.some) < 5:
            self.some.append((row, f"{source} ({str(value)[:40]!r})"))


def parse_times(values: Iterable[tuple[object, str]], where: str) -> list[float]:
    """The times of rows; see `Times`.

    Args:
        values: (what the column holds, where the row was read) of each row.
        where: the key and column, for messages.

    Raises:
        InputError: rows whose time cannot be read, counted and named.
    """
    times = Times()
    for value, source in values:
        times.add(value, source)
    return list(times.read(where))


def _from_number(text: str) -> float | None:
    number = float(text)
    if number < 0:
        return number
    if len(text) == 4 and number >= 1000:  # a year
        return _seconds(datetime.datetime(int(text), 1, 1))
    if len(text) == 8 and text.isdigit() and 1900 <= int(text[:4]) <= 2100:
        try:
            return _seconds(datetime.datetime.strptime(text, "%Y%m%d"))
        except ValueError:
            pass
    for unit in (1.0, 1e3, 1e6, 1e9):  # seconds until the year 5138
        if number / unit < 1e11:
            return number / unit
    return None


def _seconds(moment: datetime.datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=_UTC)).timestamp()


def written_time(seconds: float) -> str:
    """A time as ISO 8601 in UTC, to the second: "2018-01-31T09:30:00Z"."""
    moment = datetime.datetime(1970, 1, 1, tzinfo=_UTC) + datetime.timedelta(seconds=int(seconds))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
