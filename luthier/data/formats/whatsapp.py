"""WhatsApp: the text of an exported chat."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.chats.threads import OPTION, conversations
from luthier.data.chats.whatsapp_export import is_head, whatsapp_messages
from luthier.data.format import FORMATS, Format, Sample
from luthier.data.reading import Place, SourceRow

#: Messages may have many lines, so few of all lines need to begin one.
_SHARE = 0.1


def _detect(sample: Sample) -> bool:
    lines = [line for line in sample.lines if line.strip()]
    heads = sum(map(is_head, lines))
    return bool(lines) and is_head(lines[0]) and heads >= max(2, _SHARE * len(lines))


def _read(rows: Iterator[SourceRow], place: Place, option: str) -> Iterator[SourceRow]:
    return conversations(whatsapp_messages(rows, place), place, option)


FORMATS.register("whatsapp")(
    Format(
        name="whatsapp",
        title="a WhatsApp chat (conversations, one row an answer)",
        detect=_detect,
        read=_read,
        of_lines=True,
        option=OPTION,
        rank=35,
    )
)
