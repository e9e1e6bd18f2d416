"""Conversations as OpenAI's fine-tuning files have them: `messages` of {role, content}."""

from __future__ import annotations

from luthier.data.format import FORMATS, Format, Sample, Values, Written, by_row
from luthier.data.turns import is_turns, others, turns


def _detect(sample: Sample) -> bool:
    return sample.most(lambda values: is_turns(values.get("messages")))


def _row(values: Values, source: str) -> Values:
    conversation = turns(values.get("messages"), f"{source}, column 'messages'")
    system = values.get("system")
    if isinstance(system, str) and system.strip() and conversation[0]["role"] != "system":
        conversation.insert(0, {"role": "system", "content": system})
    return {"messages": conversation, **others(values, "messages", "system")}


def _write(values: Values) -> Written:
    # beside turns it is read as the first of them
    if "system" not in values:
        return Written(values)
    return Written(
        others(values, "system"), ("the column 'system', whose name the format uses itself",)
    )


FORMATS.register("openai")(
    Format(
        name="openai",
        title="OpenAI messages (messages of role and content)",
        detect=_detect,
        read=by_row(_row),
        keeps=True,
        write=_write,
        rank=40,
    )
)
