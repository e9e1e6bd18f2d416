"""A Slack export: a folder with users.json and channels.json, and in it a folder for each channel
with a JSON file for each day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.data.chats.slack_text import SPOKEN, readable
from luthier.data.json_window import Window
from luthier.data.reading import Place, SourceRow
from luthier.data.times import parse_time, written_time
from luthier.errors import InputError

_INDEXES = ("users.json", "channels.json", "groups.json", "dms.json", "mpims.json")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\.json")
_SLACKBOT = "USLACKBOT"


def is_slack_export(folder: Path) -> bool:
    """Whether a folder is what Slack exports: a list of people or channels, and days of one."""
    if not any((folder / name).is_file() for name in _INDEXES):
        return False
    return any(_days(channel) for channel in _channels(folder))


def slack_messages(place: Place) -> Iterator[SourceRow]:
    """The messages of people, channel by channel in order of their days.

    The columns: ts (as Slack has it), time (ISO 8601, UTC), user (the name), text (readable),
    channel, and thread: the channel and time of the thread's first message, None outside threads.
    What programs wrote, and joins and the like, are left out; so are messages without text.

    Raises:
        InputError: broken JSON. A message that is no object, or has no time, is refused.
    """
    people = _people(place)
    for channel in _channels(place.path):
        for day in _days(channel):
            name = f"{channel.name}/{day.name}"
            for values, source in _objects(place.at(name, day)):
                row = _message(values, source, channel.name, people, place)
                if row is not None:
                    yield row


@dataclass
class _People:
    names: dict[str, str] = field(default_factory=dict)
    programs: set[str] = field(default_factory=lambda: {_SLACKBOT})


def _people(place: Place) -> _People:
    found = _People()
    path = place.path / "users.json"
    if not path.is_file():
        return found
    for values, _ in _objects(place.at(path.name, path)):
        person = values.get("id")
        if isinstance(person, str):
            found.names[person] = _name(values) or person
            if values.get("is_bot") is True:
                found.programs.add(person)
    return found


def _name(values: dict[str, Any]) -> str:
    profile = values.get("profile") or values.get("user_profile")
    held = profile if isinstance(profile, dict) else {}
    candidates = (
        held.get("display_name"), values.get("real_name"), held.get("real_name"),
        values.get("name"), held.get("name"),
    )  # fmt: skip
    return next((one.strip() for one in candidates if isinstance(one, str) and one.strip()), "")


def _message(
    values: dict[str, Any], source: str, channel: str, people: _People, place: Place
) -> SourceRow | None:
    user = values.get("user")
    if (
        values.get("subtype") not in SPOKEN
        or values.get("bot_id")
        or not isinstance(user, str)
        or user in people.programs
    ):
        return None
    ts = values.get("ts")
    time = parse_time(ts)
    if time is None:
        problem = f"{source} has no time in `ts` that can be read."
        place.refuse(source, InputError(problem, fix="Export it again, or remove the message."))
        return None
    said = values.get("text")
    text = readable(said, people.names) if isinstance(said, str) else ""
    if not text:
        return None
    name = people.names.get(user) or _name({"profile": values.get("user_profile")}) or user
    thread = values.get("thread_ts")
    row = {
        "ts": ts,
        "time": written_time(time),
        "user": name,
        "text": text,
        "channel": channel,
        "thread": f"{channel} {thread}" if thread else None,
    }
    return SourceRow(row, source)


def _channels(folder: Path) -> list[Path]:
    """Folders of the export; what a link leads to may lie outside of it and is left alone."""
    found = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(found, key=lambda path: path.name)


def _days(channel: Path) -> list[Path]:
    return sorted(
        path
        for path in channel.iterdir()
        if _DAY.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    )


def _objects(place: Place) -> Iterator[tuple[dict[str, Any], str]]:
    """(object, where it is) of a file that holds a list of them; it may be empty."""
    with place.path.open("rb") as file:
        window = Window(place, file)
        if window.peek() != "[":
            raise InputError(f"{place.shown} holds no list, which all files of a Slack export do.")
        for number, item in enumerate(window.items(), 1):
            source = f"{place.shown} row {number}"
            if isinstance(item.value, dict):
                yield item.value, source
            else:
                place.refuse(source, InputError(f"{source} is no object."))
