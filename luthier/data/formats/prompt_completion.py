"""`prompt` and `completion`, each a text or a list of turns (as TRL has them)."""

from __future__ import annotations

from luthier.data.format import FORMATS, Format, Sample, Values, Written, by_row
from luthier.data.turns import answer_of, answered, others, plain_answer, plain_prompt, prompted
from luthier.errors import InputError

_ANSWERS = ("completion", "response")


def _answer_column(values: Values) -> str | None:
    return next((name for name in _ANSWERS if values.get(name) is not None), None)


def _detect(sample: Sample) -> bool:
    return sample.most(
        lambda values: (
            isinstance(values.get("prompt"), str | list)
            and isinstance(values.get(_answer_column(values) or ""), str | list)
        )
    )


def _row(values: Values, source: str) -> Values:
    column = _answer_column(values)
    if values.get("prompt") is None or column is None:
        raise InputError(f"{source} has no prompt and completion.")
    conversation = [
        *prompted(values["prompt"], f"{source}, column 'prompt'"),
        *answered(values[column], f"{source}, column {column!r}"),
    ]
    return {"messages": conversation, **others(values, "prompt", column)}


def _write(values: Values) -> Written:
    before, answer = answer_of(values["messages"])
    weighed = "weight" in answer
    made = {
        "prompt": plain_prompt(before),
        "completion": [answer] if weighed else plain_answer(answer),
    }
    taken = [name for name in ("prompt", "completion") if name in values]
    lost = tuple(f"the column {name!r}, whose name the format uses itself" for name in taken)
    return Written({**made, **others(values, "messages", "prompt", "completion")}, lost)


FORMATS.register("prompt-completion")(
    Format(
        name="prompt-completion",
        title="prompt and completion",
        detect=_detect,
        read=by_row(_row),
        keeps=True,
        write=_write,
        rank=60,
    )
)
