"""Stanford Alpaca: `instruction`, `input`, `output`; with `system` and `history` as LLaMA-Factory
has them."""

from __future__ import annotations

from luthier.data.format import FORMATS, Format, Sample, Values, Written, by_row
from luthier.data.turns import answer_of, history_turns, others, turn
from luthier.errors import InputError

_COLUMNS = ("instruction", "input", "output", "system", "history")


def _detect(sample: Sample) -> bool:
    return sample.most(
        lambda values: (
            isinstance(values.get("instruction"), str) and isinstance(values.get("output"), str)
        )
    )


def _row(values: Values, source: str) -> Values:
    said: dict[str, str] = {}
    for name in ("instruction", "input", "output", "system"):
        value = values.get(name)
        if value is not None and not isinstance(value, str):
            raise InputError(f"{source}: the column {name!r} of Alpaca is text.")
        if value is None and name in ("instruction", "output"):
            raise InputError(f"{source} has no {name!r}, which Alpaca has in every row.")
        said[name] = value or ""
    conversation = [turn("system", said["system"])] if said["system"].strip() else []
    conversation += history_turns(values.get("history"), source)
    asked = said["instruction"]
    if said["input"].strip():
        asked = f"{asked}\n\n{said['input']}" if asked.strip() else said["input"]
    conversation += [turn("user", asked), turn("assistant", said["output"])]
    return {"messages": conversation, **others(values, *_COLUMNS)}


def _write(values: Values) -> Written:
    before, answer = answer_of(values["messages"])
    lost = ["turn weights"] if any("weight" in one for one in values["messages"]) else []
    made: Values = {}
    if before[0]["role"] == "system":
        made["system"] = before.pop(0)["content"]
    asked = before.pop() if before else None
    pairs = list(zip(before[::2], before[1::2], strict=False))
    if (
        asked is None
        or asked["role"] != "user"
        or len(before) % 2
        or any((a["role"], b["role"]) != ("user", "assistant") for a, b in pairs)
    ):
        raise InputError(
            "Alpaca holds turns of user and assistant that alternate, with one system turn first."
        )
    if made.get("system", "x").strip() == "":
        del made["system"]
        lost.append("blank system turns")
    if pairs:
        made["history"] = [[a["content"], b["content"]] for a, b in pairs]
    rest = others(values, "messages", *_COLUMNS)
    taken = [name for name in values if name in _COLUMNS]
    lost += [f"the column {name!r}, whose name Alpaca uses itself" for name in taken]
    main = {"instruction": asked["content"], "input": "", "output": answer["content"]}
    return Written({**main, **made, **rest}, tuple(lost))


FORMATS.register("alpaca")(
    Format(
        name="alpaca",
        title="Alpaca (instruction, input, output)",
        detect=_detect,
        read=by_row(_row),
        keeps=True,
        write=_write,
    )
)
