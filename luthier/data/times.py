"""Times as people write them, as seconds since 1970 in UTC."""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Sequence

from luthier.errors import InputError

_UTC = datetime.UTC
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
#: Ways to write a date, none of which can be read as another date by somebody else.
_WRITTEN = (
    "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y", "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S", "%m %d, %Y", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y",
    "%b %d %Y", "%B %d %Y", "%Y-%m-%d %H:%M:%S %Z", "%a %b %d %H:%M:%S %Y", "%Y%m%d",
)  # fmt: skip
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


def parse_times(values: Sequence[tuple[object, str]], where: str) -> list[float]:
    """The times of rows.

    Dates such as 3/4/2021 are read with the month first or the day first, whichever suits all rows.

    Args:
        values: (what the column holds, where the row was read) of each row.
        where: the key and column, for messages.

    Raises:
        InputError: rows whose time cannot be read, counted and named.
    """
    order = _order_of_slashes(values)
    found: list[float] = []
    wrong: list[tuple[object, str]] = []
    for value, source in values:
        match = _SLASHES.fullmatch(value.strip()) if isinstance(value, str) else None
        if match and order:
            day, month = (match[1], match[2]) if order == "day" else (match[2], match[1])
            value = f"{match[3]}/{month}/{day}{match[4]}"
        time = parse_time(value)
        if time is None:
            wrong.append((value, source))
        else:
            found.append(time)
    if wrong:
        shown = ", ".join(f"{source} ({str(value)[:40]!r})" for value, source in wrong[:5])
        slashes = [value for value, _ in wrong if _SLASHES.fullmatch(str(value).strip())]
        unclear = order is None and bool(slashes)
        more = ", ..." * (len(wrong) > 5)
        raise InputError(
            f"`{where}`: {len(wrong)} of {len(values)} rows have no time that can be read: "
            f"{shown}{more}.",
            fix="Whether day or month comes first cannot be told: write 2021-04-03."
            if unclear
            else "Write times as 2021-04-03 or 2021-04-03T12:00:00Z, or as seconds since 1970.",
        )
    return found


def _order_of_slashes(values: Sequence[tuple[object, str]]) -> str | None:
    """Whether "day" or "month" comes first in dates with slashes; None where that is unclear."""
    first = second = 0
    for value, _ in values:
        match = _SLASHES.fullmatch(value.strip()) if isinstance(value, str) else None
        if match:
            first, second = max(first, int(match[1])), max(second, int(match[2]))
    if first > 12 >= second:
        return "day"
    return "month" if second > 12 >= first else None


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
