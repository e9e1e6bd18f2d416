"""IRC: the log of a channel."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.chats.irc_log import irc_messages, is_log, is_said
from luthier.data.chats.threads import OPTION, conversations
from luthier.data.format import FORMATS, Format, Sample
from luthier.data.reading import Place, SourceRow

_SHARE = 0.8


def _detect(sample: Sample) -> bool:
    lines = [line for line in sample.lines if line.strip()]
    known = sum(map(is_log, lines))
    return known >= _SHARE * max(1, len(lines)) and any(map(is_said, lines))


def _read(rows: Iterator[SourceRow], place: Place, option: str) -> Iterator[SourceRow]:
    return conversations(irc_messages(rows, place), place, option)


FORMATS.register("irc")(
    Format(
        name="irc",
        title="an IRC log (conversations, one row an answer)",
        detect=_detect,
        read=_read,
        of_lines=True,
        option=OPTION,
        rank=30,
    )
)
