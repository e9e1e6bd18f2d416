"""Preferences: a `chosen` and a `rejected` answer to one prompt.

The prompt is explicit (`prompt`, `messages` or `conversations`, or `instruction` and `input`), or
implicit: what both answers begin with. Of lists of turns that is the turns they share. Of texts in
Anthropic's form ("\\n\\nHuman: ... \\n\\nAssistant: ...") it is the turns too; of other texts the
whole lines they share, because shared words alone may belong to the answers.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from luthier.data.format import FORMATS, Format, Sample, Values, Written, by_row, structured
from luthier.data.turns import (
    Turn,
    answer_of,
    answered,
    asked_and_answered,
    history_turns,
    is_text,
    others,
    plain_prompt,
    prompted,
    turn,
)
from luthier.errors import InputError

_PROMPTS = ("prompt", "messages", "conversations", "conversation")
#: Columns of other formats that may hold the chosen answer again.
_REPEATS = ("completion", "response", "output")
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")


def _detect(sample: Sample) -> bool:
    return sample.most(
        lambda values: (
            all(isinstance(values.get(name), str | list | dict) for name in ("chosen", "rejected"))
            and not asked_and_answered(values)
        )
    )


def _row(values: Values, source: str) -> Values:
    for name in ("chosen", "rejected"):
        if values.get(name) is None:
            raise InputError(f"{source} has no {name!r} answer.")
    column = next((name for name in _PROMPTS if values.get(name) is not None), None)
    used = ["chosen", "rejected", "system"]
    prompt: list[Turn] = []
    if column is not None:
        prompt = prompted(values[column], f"{source}, column {column!r}")
        used.append(column)
    elif isinstance(values.get("instruction"), str):
        asked = [values["instruction"], values.get("input") or ""]
        prompt = history_turns(values.get("history"), source)
        prompt.append(turn("user", "\n\n".join(text for text in asked if text.strip())))
        used += ["instruction", "input", "history"]
    system = values.get("system")
    if isinstance(system, str) and system.strip():
        prompt.insert(0, turn("system", system))
    chosen, rejected = (
        _turns(values[name], f"{source}, column {name!r}", bool(prompt))
        for name in ("chosen", "rejected")
    )
    if chosen is None or rejected is None:
        chosen, rejected = _cut(values["chosen"], values["rejected"], source)
    if len(chosen) == 1 and prompt and prompt[-1] == chosen[0]:
        prompt = prompt[:-1]  # `messages` may hold the chosen answer too, as our own rows do
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    prompt = _joined(prompt, chosen[:shared])
    if len(chosen) - shared != 1 or len(rejected) - shared != 1:
        raise InputError(
            f"{source}: chosen and rejected differ in more than their last turn.",
            fix="A preference is between two answers to the same conversation.",
        )
    answers = chosen[-1], rejected[-1]
    if not prompt or any(answer["role"] != "assistant" for answer in answers):
        raise InputError(
            f"{source} has no prompt: neither a column of it, nor a beginning that both answers "
            "share.",
            fix="Add a column `prompt`.",
        )
    # the chosen answer may stand in a column of its own, too, as where other formats are written
    used += [name for name in _REPEATS if _repeats(values.get(name), answers[0])]
    return {
        "messages": [*prompt, answers[0]],
        "chosen": answers[0]["content"],
        "rejected": answers[1]["content"],
        **others(values, *used, "messages"),
    }


def _repeats(value: Any, answer: Turn) -> bool:
    return bool(value == answer["content"] or structured(value) == [answer])


def _joined(prompt: list[Turn], shared: list[Turn]) -> list[Turn]:
    """The prompt and the turns that both answers begin with; some data sets repeat the prompt, or
    the end of it, in front of both."""
    if not shared or prompt[-len(shared) :] == shared:
        return prompt
    if shared[: len(prompt)] == prompt or shared[-len(prompt) :] == prompt:
        return shared
    return prompt + shared


def _turns(value: Any, where: str, prompt: bool) -> list[Turn] | None:
    """The turns of an answer; None for a text that has its prompt in it and no marks of turns."""
    if not is_text(value):
        return answered(value, where)
    if _SPEAKER.match(value):
        parts = _SPEAKER.split(value)[1:]
        roles = {"Human": "user", "Assistant": "assistant"}
        return [
            turn(roles[who], said.strip())
            for who, said in zip(parts[::2], parts[1::2], strict=True)
        ]
    return [turn("assistant", value)] if prompt else None


def _cut(chosen: Any, rejected: Any, source: str) -> tuple[list[Turn], list[Turn]]:
    texts = [str(chosen), str(rejected)]
    pairs = zip(*(text.splitlines(keepends=True) for text in texts), strict=False)
    shared = "".join(one for one, other in itertools.takewhile(lambda p: p[0] == p[1], pairs))
    # a last line that has no end is an answer, or the beginning of one
    end = shared.rfind("\n") + 1
    if not texts[0][:end].strip():
        raise InputError(
            f"{source} has no prompt: neither a column of it, nor whole lines that both answers "
            "begin with.",
            fix="Add a column `prompt`.",
        )
    asked = turn("user", texts[0][:end].rstrip("\n"))
    made = [[asked, turn("assistant", text[end:])] for text in texts]
    return made[0], made[1]


def _write(values: Values) -> Written:
    if not all(isinstance(values.get(name), str) for name in ("chosen", "rejected")):
        raise InputError("A preference needs `chosen` and `rejected`, and the row has not both.")
    before, _ = answer_of(values["messages"])
    prompt = plain_prompt(before)
    made: Values = {"prompt": prompt, "chosen": values["chosen"], "rejected": values["rejected"]}
    if isinstance(prompt, list) or any(
        _SPEAKER.match(made[name]) or not is_text(made[name]) for name in ("chosen", "rejected")
    ):
        made |= {name: [turn("assistant", values[name])] for name in ("chosen", "rejected")}
    taken = [name for name in ("prompt", "system") if name in values]
    lost = tuple(f"the column {name!r}, whose name the format uses itself" for name in taken)
    return Written({**made, **others(values, "messages", "system", *made)}, lost)


FORMATS.register("preference")(
    Format(
        name="preference",
        title="preferences (chosen and rejected; the chosen answer is what is learned)",
        detect=_detect,
        read=by_row(_row),
        keeps=True,
        write=_write,
        rank=10,
    )
)
