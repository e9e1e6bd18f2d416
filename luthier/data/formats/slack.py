"""Slack: the messages of an export, of one of its days, or of an XML of the same fields."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.chats.slack_text import SPOKEN, readable
from luthier.data.chats.threads import OPTION, Said, conversations
from luthier.data.format import FORMATS, Format, Sample, Values
from luthier.data.reading import Place, SourceRow
from luthier.data.times import parse_time
from luthier.errors import InputError

#: Columns that name a thread.
_THREADS = ("thread", "conversation_id", "thread_ts")


def _fits(values: Values) -> bool:
    # joins have no thread and programs no user, but a type; of an XML all have all
    known = any(name in values for name in (*_THREADS, "type"))
    return {"ts", "text"} <= set(values) and known and parse_time(values["ts"]) is not None


def _detect(sample: Sample) -> bool:
    spoken = any("user" in row.values for row in sample.rows)
    return spoken and sample.most(_fits)


def _read(rows: Iterator[SourceRow], place: Place, option: str) -> Iterator[SourceRow]:
    return conversations(_messages(rows, place), place, option)


def _messages(rows: Iterator[SourceRow], place: Place) -> Iterator[Said]:
    for row in rows:
        values = row.values
        if values.get("subtype") not in SPOKEN or values.get("bot_id") or not values.get("user"):
            continue
        time = parse_time(values.get("ts"))
        if time is None:
            problem = f"{row.source} has no time in `ts` that can be read."
            place.refuse(row.source, InputError(problem, fix="Mend it, or remove the message."))
            continue
        text = values.get("text") or ""
        if "thread" not in values:  # the reader of exports has resolved its marks
            text = readable(str(text), {})
        thread = next((values[name] for name in _THREADS if values.get(name)), "")
        if str(text).strip():
            yield Said(
                str(values["user"]), str(text).strip(), time, row.source,
                channel=str(values.get("channel") or ""), thread=str(thread),
            )  # fmt: skip


FORMATS.register("slack")(
    Format(
        name="slack",
        title="Slack messages (their threads, one row an answer)",
        detect=_detect,
        read=_read,
        option=OPTION,
        rank=30,
    )
)
