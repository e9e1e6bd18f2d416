"""Conversations as people write them (roles and names of keys differ) in one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthier.data.format import structured
from luthier.errors import InputError

Turn = dict[str, Any]

#: Names of roles in use to our three.
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}


def turn(role: str, content: str) -> Turn:
    """One turn."""
    return {"role": role, "content": content}


def is_turns(value: Any) -> bool:
    """Whether a value is a list of turns, in either spelling."""
    value = structured(value)
    return isinstance(value, list) and bool(value) and all(map(is_turn, value))


def asked_and_answered(values: dict[str, Any]) -> bool:
    """Whether a row has a prompt and an answer in columns of the formats for just that, as rows of
    other formats have that were converted and kept their columns."""
    return any(
        all(isinstance(values.get(name), str | list) for name in pair)
        for pair in (("instruction", "output"), ("prompt", "completion"))
    )


def is_turn(value: Any) -> bool:
    """Whether a value is one turn: {role, content} or {from, value}."""
    return isinstance(value, dict) and ({"role", "content"} <= set(value) or _share_gpt(value))


def _share_gpt(value: Turn) -> bool:
    return {"from", "value"} <= set(value)


def turns(value: Any, where: str) -> list[Turn]:
    """A list of turns in the one form: {role: system, user or assistant; content: text}.

    A `weight` is kept. Content in parts is joined where all are text.

    Raises:
        InputError: no list of turns, a role such as a tool's, or content that is no text.
    """
    value = structured(value)
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} holds no list of turns.")
    return [_turn(item, f"{where}: turn {number}") for number, item in enumerate(value, 1)]


def one_turn(value: Any, where: str) -> Turn:
    """One turn in the one form; see `turns`."""
    return _turn(structured(value), where)


def _turn(item: Any, where: str) -> Turn:
    if not is_turn(item):
        raise InputError(
            f"{where} has neither role and content nor from and value.",
            fix='Write {"role": "user", "content": "..."}.',
        )
    named, said = ("from", "value") if _share_gpt(item) else ("role", "content")
    role = _ROLES.get(str(item[named]).strip().lower())
    if role is None:
        raise InputError(
            f"{where} has the role {item[named]!r}, and conversations here are of system, user and "
            "assistant.",
            fix="Leave out conversations with tools, or write the tool's words into a user's turn.",
        )
    if item.get("tool_calls"):
        raise InputError(f"{where} calls tools, which conversations here do not hold.")
    made = turn(role, _text(item[said], where))
    if item.get("weight") is not None:
        made["weight"] = item["weight"]
    return made


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return "".join(part["text"] for part in content)
    raise InputError(f"{where} has content that is no text.")


def prompted(value: Any, where: str) -> list[Turn]:
    """A prompt, given as text or as turns, as turns."""
    return [turn("user", value)] if is_text(value) else turns(value, where)


def answered(value: Any, where: str) -> list[Turn]:
    """An answer, given as text, as one turn or as turns, as turns."""
    if is_text(value):
        return [turn("assistant", value)]
    held = structured(value)
    return [one_turn(held, where)] if isinstance(held, dict) else turns(held, where)


def is_text(value: Any) -> bool:
    """Whether a value is text that is no JSON of turns; any other JSON is what somebody says."""
    return isinstance(value, str) and not (is_turns(value) or is_turn(structured(value)))


def plain_prompt(conversation: Sequence[Turn]) -> str | list[Turn]:
    """The turns before an answer as text where that is one turn of the user, else as they are."""
    if len(conversation) == 1 and conversation[0]["role"] == "user":
        content = conversation[0]["content"]
        # text that reads as turns would be taken for turns
        if is_text(content):
            return str(content)
    return list(conversation)


def answer_of(conversation: Sequence[Turn]) -> tuple[list[Turn], Turn]:
    """(the turns before, the answer) of a conversation.

    Raises:
        InputError: it does not end with the assistant's turn behind another's.
    """
    if len(conversation) < 2 or conversation[-1]["role"] != "assistant":
        raise InputError("The conversation does not end with an answer of the assistant.")
    return list(conversation[:-1]), conversation[-1]


def plain_answer(answer: Turn) -> str | list[Turn]:
    """An answer as text, or as turns where text would be read as such."""
    return answer["content"] if is_text(answer["content"]) else [answer]


def others(values: dict[str, Any], *used: str) -> dict[str, Any]:
    """The columns that are not used."""
    return {name: value for name, value in values.items() if name not in used}


def history_turns(value: Any, source: str) -> list[Turn]:
    """The turns of Alpaca's `history`: pairs of what was asked and said before, or None.

    Raises:
        InputError: it is no list of pairs of texts.
    """
    value = structured(value)
    made: list[Turn] = []
    for pair in value or ():
        if not (
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)
        ):
            raise InputError(f"{source}: `history` is a list of pairs, what was asked and said.")
        made += [turn("user", pair[0]), turn("assistant", pair[1])]
    return made
