"""KTO: an answer and whether it was wanted: `prompt`, `completion`, `label`; or `messages`, `label`
as LLaMA-Factory has them (also `kto_tag`)."""

from __future__ import annotations

from typing import Any

from luthier.data.format import FORMATS, Format, Recipe, Sample, Values, Written, by_row
from luthier.data.turns import (
    answer_of,
    answered,
    is_turns,
    others,
    plain_answer,
    plain_prompt,
    prompted,
    turns,
)
from luthier.errors import InputError

_LABELS = ("label", "kto_tag")
_TALKS = ("messages", "conversations", "conversation")


def _label(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value).strip().lower())


def _label_column(values: Values) -> str | None:
    return next((name for name in _LABELS if _label(values.get(name)) is not None), None)


def _fits(values: Values) -> bool:
    talk = any(is_turns(values.get(name)) for name in _TALKS)
    pair = "prompt" in values and "completion" in values
    return (talk or pair) and _label_column(values) is not None


def _detect(sample: Sample) -> bool:
    return sample.most(_fits)


def _row(values: Values, source: str) -> Values:
    label = _label_column(values)
    if label is None:
        raise InputError(
            f"{source} has no label that is true or false.",
            fix="KTO says of an answer whether it was wanted: label true or false.",
        )
    talk = next((name for name in _TALKS if values.get(name) is not None), None)
    if talk is not None:
        conversation = turns(values[talk], f"{source}, column {talk!r}")
        rest = others(values, talk, label)
    else:
        conversation = [
            *prompted(values.get("prompt"), f"{source}, column 'prompt'"),
            *answered(values.get("completion"), f"{source}, column 'completion'"),
        ]
        rest = others(values, "prompt", "completion", label)
    return {"messages": conversation, "label": _label(values[label]), **others(rest, "messages")}


def _write(values: Values) -> Written:
    if not isinstance(values.get("label"), bool):
        raise InputError("KTO needs a `label`, true or false, and the row has none.")
    before, answer = answer_of(values["messages"])
    made = {
        "prompt": plain_prompt(before),
        "completion": [answer] if "weight" in answer else plain_answer(answer),
        "label": values["label"],
    }
    taken = [name for name in ("prompt", "completion", *_TALKS[1:]) if name in values]
    lost = tuple(f"the column {name!r}, whose name the format uses itself" for name in taken)
    return Written({**made, **others(values, *_TALKS, *made)}, lost)


def _no_recipe(_: Sample) -> Recipe | None:
    return None


FORMATS.register("kto")(
    Format(
        name="kto",
        title="KTO (an answer, and label: whether it was wanted)",
        detect=_detect,
        read=by_row(_row),
        recipe=_no_recipe,
        keeps=True,
        write=_write,
        rank=20,
    )
)
