"""Every source in every format that is written, and read again without saying what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_formats_shapes import SAMPLES, sampled

from luthier.data.converting import convert_file
from luthier.data.format import FORMATS, detect
from luthier.data.reading import SourceRow, read_rows
from luthier.data.recipes import make_examples
from luthier.data.row_plans import Wish
from luthier.errors import InputError
from luthier.task_sections import Data

#: Samples that say more than the shortest ones do.
FULL: dict[str, tuple[str, Any]] = SAMPLES | {
    "alpaca": (
        "t.json",
        [
            {"instruction": "a", "input": "b", "output": "c", "system": "s", "topic": "x"},
            {"instruction": "a", "input": "", "output": "c", "history": [["q", "r"]], "topic": "y"},
        ],
    ),
    "kto": ("t.jsonl", [{"prompt": f"a{n}", "completion": "b", "label": n == 0} for n in (0, 1)]),
    "preference": (
        "t.jsonl",
        [{"prompt": "a", "chosen": "b", "rejected": "c", "margin": 2, "system": "s"}],
    ),
    "prompt-completion": ("t.jsonl", [{"prompt": "a", "completion": "b", "n": 1}]),
    "squad": (
        "t.jsonl",
        [
            {"id": str(n), "context": "Rome is old.", "question": f"What {n}?", "title": "R",
             "answers": {"text": ["Rome"] * n, "answer_start": [0] * n}}
            for n in (0, 1)
        ],
    ),
}  # fmt: skip
WRITTEN = [name for name, one in FORMATS if one.write is not None]
#: Formats whose rows hold something that others need, so that their own columns stay what they are.
SAID = {"kto": "label", "preference": "rejected"}


def pairs(rows: list[SourceRow], recipe: dict[str, str]) -> list[tuple[list[tuple[str, str]], str]]:
    """(turns up to the answer, the answer) that each row is trained on."""
    made = make_examples(rows, Data(train="t", **recipe))
    return [([(m.role, m.content) for m in one.messages], one.output) for one in made]


@pytest.mark.parametrize("to", WRITTEN)
@pytest.mark.parametrize("source", sorted(SAMPLES))
@pytest.mark.parametrize("samples", [SAMPLES, FULL], ids=["short", "full"])
def test_what_was_converted_is_told_and_equal(
    tmp_path: Path, samples: dict[str, tuple[str, Any]], source: str, to: str
) -> None:
    name = sampled(tmp_path, *samples[source])
    found = detect(name, tmp_path)
    rows = read_rows(name, tmp_path, format="auto")
    try:
        done = convert_file(name, tmp_path, tmp_path / "out.jsonl", Wish(to))
    except InputError as error:
        # what cannot be said in the other format is refused with a reason
        needs = {"kto": "label", "preference": "chosen"}.get(to)
        lacks = needs is not None and needs not in rows[0].values
        assert lacks or found.recipe is None or found.recipe.text
        assert (needs or "--map") in str(error) or "--map" in str(error)
        return
    assert done.refused.count == 0
    again = detect("out.jsonl", tmp_path)
    back = read_rows("out.jsonl", tmp_path, format="auto")
    # a row that says which answers were wanted stays one, whatever its turns are written as
    assert again.format is not None and again.format.name in (to, source if source in SAID else to)
    assert [row.values for row in back] == [
        row.values for row in read_rows("out.jsonl", tmp_path, format=to)
    ]
    recipe = found.recipe.keys() if found.recipe else {"messages": "messages"}
    assert pairs(back, {"messages": "messages"}) == pairs(rows, recipe)
    for before, after in zip(rows, back, strict=True):
        lost = {key for key in before.values if any(repr(key) in said for said in done.lost)}
        for key in before.values.keys() - {"messages"} - lost:
            assert after.values[key] == before.values[key], key
