"""Rows that hold a whole conversation: a list of turns, the last of them the answer."""

from __future__ import annotations

import json
import math
from typing import Any, cast

from luthier.data.examples import Conversation, Message, Role
from luthier.errors import InputError

_EXAMPLE = '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'


def split_conversation(value: Any, where: str) -> tuple[Conversation, Message]:
    """(turns up to the answer, the answer) of a conversation.

    Args:
        value: a list of {role, content}, or the same as JSON text. One system turn may lead; then
            user and assistant alternate, beginning with the user and ending with the assistant. An
            assistant's turn may have a `weight`: a number from 0 that scales what it is trained.
        where: the column and row, for messages.

    Raises:
        InputError: any other shape; the message names the turn.
    """
    turns = _turns(value, where)
    start = 1 if turns[0].role == "system" else 0
    talk = turns[start:]
    for number, turn in enumerate(talk, start + 1):
        expected = "user" if (number - start) % 2 else "assistant"
        if turn.role == "system":
            raise InputError(
                f"{where}: turn {number} is a system turn, which may only come first.",
                fix="Move it to the front, or join it with the first one.",
            )
        if turn.role != expected:
            before = (
                f"after turn {number - 1} ({turns[number - 2].role})" if number > 1 else "first"
            )
            raise InputError(
                f"{where}: turn {number} is {turn.role}'s, and {before} comes the {expected}.",
                fix="Roles alternate: user, assistant, ...; join turns of one role that follow.",
            )
    if not talk or talk[-1].role != "assistant":
        last = turns[-1].role
        raise InputError(
            f"{where}: the last turn is the {last}'s; it must be the assistant's, the answer.",
            fix="Add the answer, or leave the row out.",
        )
    return tuple(turns[:-1]), turns[-1]


def _turns(value: Any, where: str) -> list[Message]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where} is text and no JSON: {error}.", fix=f"Write {_EXAMPLE}."
            ) from None
    if not isinstance(value, list) or not value:
        what = "an empty list" if isinstance(value, list) else "no list"
        raise InputError(f"{where} is {what} of turns.", fix=f"Write {_EXAMPLE}.")
    return [_turn(item, f"{where}: turn {number}") for number, item in enumerate(value, 1)]


def _turn(item: Any, where: str) -> Message:
    if not isinstance(item, dict) or not {"role", "content"} <= set(item):
        keys = f" (its keys: {', '.join(map(str, item))})" if isinstance(item, dict) else ""
        raise InputError(f"{where} has no role and content{keys}.", fix=f"Write {_EXAMPLE}.")
    role, content = item["role"], item["content"]
    if role not in ("system", "user", "assistant"):
        raise InputError(
            f"{where} has the role {role!r}.", fix="Roles are system, user and assistant."
        )
    if not isinstance(content, str):
        raise InputError(f"{where} has content that is no text.", fix="Content is one text.")
    return Message(cast("Role", role), content, _weight(item.get("weight"), role, where))


def _weight(value: Any, role: str, where: str) -> float | None:
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise InputError(
            f"{where} has the weight {value!r}.",
            fix="A weight is a number from 0: 0 for a turn that is not trained, 1 as usual.",
        )
    if role == "assistant":
        return float(value)
    if value:
        raise InputError(
            f"{where} is the {role}'s and has a weight; only what the assistant says is weighed.",
            fix="Take it out, or set it to 0.",
        )
    return None
