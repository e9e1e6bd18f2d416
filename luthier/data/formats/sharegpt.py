"""ShareGPT: `conversations` of {from, value}, from human and gpt, and perhaps a `system` column."""

from __future__ import annotations

from luthier.data.format import FORMATS, Format, Sample, Values, Written, by_row
from luthier.data.turns import is_turns, others, turns

_COLUMNS = ("conversations", "conversation")
_NAMES = {"system": "system", "user": "human", "assistant": "gpt"}


def _column(values: Values) -> str | None:
    return next((name for name in _COLUMNS if is_turns(values.get(name))), None)


def _detect(sample: Sample) -> bool:
    return sample.most(lambda values: _column(values) is not None)


def _row(values: Values, source: str) -> Values:
    column = _column(values) or "conversations"
    conversation = turns(values.get(column), f"{source}, column {column!r}")
    system = values.get("system")
    if isinstance(system, str) and system.strip() and conversation[0]["role"] != "system":
        conversation.insert(0, {"role": "system", "content": system})
    return {"messages": conversation, **others(values, column, "system")}


def _write(values: Values) -> Written:
    conversation = [
        {"from": _NAMES[turn["role"]], "value": turn["content"], **others(turn, "role", "content")}
        for turn in values["messages"]
    ]
    taken = [name for name in (*_COLUMNS, "system") if name in values]
    lost = tuple(f"the column {name!r}, whose name ShareGPT uses itself" for name in taken)
    return Written({"conversations": conversation, **others(values, "messages", *taken)}, lost)


FORMATS.register("sharegpt")(
    Format(
        name="sharegpt",
        title="ShareGPT (conversations of from and value)",
        detect=_detect,
        read=by_row(_row),
        keeps=True,
        write=_write,
        rank=40,
    )
)
