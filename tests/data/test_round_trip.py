"""Every source, written in every format and read again without a word on what it is, is equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import format_sources
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data.converting import Converted, convert_file
from luthier.data.format import FORMATS, detect
from luthier.data.reading import read_rows
from luthier.data.row_plans import Wish
from luthier.data.templates import compile_template
from luthier.errors import InputError

TARGETS = [name for name, format in FORMATS if format.write is not None]
#: What a source must say for it to be written in a format.
NEEDED = {"preference": "chosen", "kto": "label"}


def meant(folder: Path, source: str) -> list[dict[str, Any]]:
    """Rows as they are told to be, with the conversation that they mean."""
    recipe = detect(source, folder).recipe
    rows = []
    for row in read_rows(source, folder, format="auto"):
        values = dict(row.values)
        if "messages" not in values and recipe is not None and recipe.input and recipe.output:
            asked = compile_template(recipe.input, "input").render(row)
            answered = compile_template(recipe.output, "output").render(row)
            talk = [format_sources.user(asked), format_sources.assistant(answered)]
            values = {"messages": talk, **values}
        rows.append(values)
    return rows


def convert(folder: Path, source: str, out: str, to: str) -> Converted:
    return convert_file(source, folder, folder / out, Wish(to), force=True)


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("name", format_sources.SOURCES)
def test_a_source_in_another_format_is_equal_or_refused(tmp_path: Path, name: str, to: str) -> None:
    source = format_sources.written(tmp_path, name)
    found = detect(source, tmp_path).format
    assert found is not None
    wanted = meant(tmp_path, source)
    if found.name == "text" or (to in NEEDED and NEEDED[to] not in wanted[0]):
        with pytest.raises(InputError, match="none of its"):
            convert(tmp_path, source, "o.jsonl", to)
        assert not (tmp_path / "o.jsonl").exists()
        return
    done = convert(tmp_path, source, "o.jsonl", to)
    assert done.refused.count == 0
    read = meant(tmp_path, "o.jsonl")
    if "turn weights" in done.lost:
        for row in wanted:
            for turn in row["messages"]:
                turn.pop("weight", None)
    for row in wanted:
        for column in [column for column in row if any(f"{column!r}" in s for s in done.lost)]:
            del row[column]
    assert read == wanted
    # rows that say which answer was wanted, and other rows that are one format by their columns
    # and another by what they were written as, are told to be the first: that is said
    told = detect("o.jsonl", tmp_path).format
    assert told is not None
    assert (told.name == to) == (done.note == "")
    assert told.name == to or told.name == found.name in NEEDED
    assert told.name == to or f"data.format: {to}" in done.note


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "arrow"])
def test_every_source_in_files_of_every_kind_is_equal(tmp_path: Path, kind: str) -> None:
    # a file of columns is tried in a process of its own, which takes its time
    for name in list(format_sources.SOURCES)[:: 5 if kind in ("parquet", "arrow") else 1]:
        source = format_sources.written(tmp_path / "in", name)
        rows = [row.values for row in read_rows(source, tmp_path / "in", format="auto")]
        convert_file(source, tmp_path / "in", tmp_path / f"o.{kind}", Wish(kind), force=True)
        read = [row.values for row in read_rows(f"o.{kind}", tmp_path, format="auto")]
        assert list(map(held, read)) == list(map(held, rows)), name
        (tmp_path / "in" / source).unlink(missing_ok=True)


def held(values: dict[str, Any]) -> dict[str, Any]:
    """What a row says in any kind of file: csv has text for all, and columns have null for none."""
    return {name: text(value) for name, value in values.items() if value not in (None, "")}


def text(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list):
        return [text(one) for one in value]
    if isinstance(value, dict):
        return {key: text(one) for key, one in value.items() if one is not None}
    if isinstance(value, str) and value[:1] in ("[", "{"):
        return text(json.loads(value))
    return value


NAMES = st.sampled_from(
    ["system", "prompt", "completion", "response", "instruction", "input", "output", "history",
     "label", "kto_tag", "conversations", "conversation", "context", "text", "id"]
)  # fmt: skip


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(NAMES, st.sampled_from(["x", "true", "[1]", "{}"]), max_size=4),
    st.sampled_from(["alpaca", "sharegpt", "openai", "prompt-completion"]),
)
def test_columns_with_names_that_formats_use_are_kept_or_said(
    tmp_path: Path, more: dict[str, str], to: str
) -> None:
    talk = [format_sources.user("a"), format_sources.assistant("b")]
    format_sources.write_lines(tmp_path / "t.jsonl", [{"messages": talk, **more}])
    done = convert_file(
        "t.jsonl", tmp_path, tmp_path / "o.jsonl", Wish(to, given="openai"), force=True
    )
    wanted = next(row.values for row in read_rows("t.jsonl", tmp_path, format="openai"))
    for column in [column for column in wanted if any(f"{column!r}" in s for s in done.lost)]:
        del wanted[column]
    assert read_rows("o.jsonl", tmp_path, format=to)[0].values == wanted
    told = detect("o.jsonl", tmp_path).format
    assert told is not None and (told.name == to) == (done.note == "")


@pytest.mark.parametrize(
    "answer", ['{"name": "Ann"}', "[1, 2]", "{}", "[]", '[{"start": 0, "label": "PER"}]']
)
def test_answers_that_are_json_stay_text(tmp_path: Path, answer: str) -> None:
    rows = [
        {"prompt": "Extract.", "completion": answer},
        {"prompt": answer, "completion": answer},
    ]
    format_sources.write_lines(tmp_path / "t.jsonl", rows)
    read = read_rows("t.jsonl", tmp_path, format="auto")
    assert [row.values["messages"][-1]["content"] for row in read] == [answer] * 2
    assert read[1].values["messages"][0] == format_sources.user(answer)
    pairs = [{"prompt": "Extract.", "chosen": answer, "rejected": "no"}]
    format_sources.write_lines(tmp_path / "p.jsonl", pairs)
    [row] = read_rows("p.jsonl", tmp_path, format="auto")
    assert row.values["chosen"] == answer


def test_what_two_answers_begin_with_is_the_prompt(tmp_path: Path) -> None:
    source = format_sources.written(tmp_path, "preference, implicit")
    rows = [row.values for row in read_rows(source, tmp_path, format="auto")]
    user, assistant = format_sources.user, format_sources.assistant
    assert rows == [
        {"messages": [user("Hi"), assistant("Hello")], "chosen": "Hello", "rejected": "No"},
        {"messages": [user("a"), assistant("b")], "chosen": "b", "rejected": "c"},
        {"messages": [user("Which?"), assistant("This.")], "chosen": "This.", "rejected": "That."},
    ]
    # the prompt in front of both answers, whole, with more before it, or its end only
    talk = format_sources.TALK
    one, other = talk[-1], assistant("You")
    for prompt, lead in (
        (talk[:-1], talk[:-1]),
        (talk[1:-1], talk[:-1]),
        (talk[:-1], talk[1:-1]),
        (talk[:1], talk[1:-1]),
    ):
        rows = [{"prompt": prompt, "chosen": [*lead, one], "rejected": [*lead, other]}]
        format_sources.write_lines(tmp_path / "t.jsonl", rows)
        [row] = read_rows("t.jsonl", tmp_path, format="auto")
        assert row.values["messages"] == talk
