"""`--fix`: what is mended, what is only listed, and that doing it twice changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.fixing import Change, fix_file, fix_rows
from luthier.data.reading import SourceRow
from luthier.data.repairs import CONTROLS, mend, mend_value, mojibake
from luthier.errors import InputError
from luthier.files import read_jsonl
from luthier.task import Task

#: Texts with what can be wrong in them.
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.sampled_from(["Ã©", "â€™", "Ã\x83Â©", "\x93so\x94", "\x07", "\x00", "\ud83d", " ", "\n",
                         "Ð\x9fÑ€", "ðŸ˜€", "\ufeff", "\x7f", "\ufffd", "café"]),
    ),
    max_size=5,
).map("".join)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "mended", "done"),
    [
        ("her fiancÃ© Cal", "her fiancé Cal", ("mojibake",)),
        ("itâ€™s", "it’s", ("mojibake",)),
        ("cafÃ\x83Â©", "café", ("mojibake",)),  # twice
        ("\x93so\x94 \x97 yes", "“so” — yes", ("control characters",)),
        ("bell\x07 rings\x00", "bell rings", ("control characters",)),
        ("half \ud83d of it", "half  of it", ("surrogates",)),
        ("end  \n\n", "end", ("spaces",)),
        ("a\tb\r\nc", "a\tb\r\nc", ()),
        ("Grüße, naïve, 東京, LIBERTÉ\u00a0!", "Grüße, naïve, 東京, LIBERTÉ\u00a0!", ()),
        ("lost \ufffd", "lost \ufffd", ()),
    ],
)
def test_mending_a_text(text: str, mended: str, done: tuple[str, ...]) -> None:
    assert mend(text) == (mended, done)


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_mending_again_changes_nothing(text: str) -> None:
    mended, _ = mend(text)
    assert mend(mended) == (mended, ())
    assert not CONTROLS.search(mended) and mojibake(mended) is None
    assert mended == mended.rstrip()
    mended.encode()


def test_a_cell_of_turns_is_mended_inside() -> None:
    cell = [{"role": "user", "content": "cafÃ©"}, {"role": "assistant", "content": "ok", "n": 1}]
    mended, changes = mend_value(cell)
    assert mended[0]["content"] == "café" and mended[1] == cell[1]
    assert changes == [("[0].content", "mojibake", "cafÃ©", "café")]
    assert cell[0]["content"] == "cafÃ©"  # what was given is left as it was


def task(folder: Path, kind: str = "classification", **data: Any) -> Task:
    rows = {"train": "rows.jsonl", "input": "{{ q }}", "output": "{{ a }}", **data}
    return Task.from_dict(
        {"name": "t", "kind": kind, "data": {k: v for k, v in rows.items() if v}},
        path=folder / "task.yaml",
    )


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROWS = [
    {"q": "one", "a": "x", "id": 1},
    {"q": "two", "a": ""},
    {"q": "  ", "a": "x"},
    {"q": "one", "a": "x", "id": 5},
    {"q": "One!", "a": "y"},
    {"q": "cafÃ© ", "a": "x"},
    {"q": "café", "a": "x"},
    {"a": "x"},
    {"q": None, "a": "x"},
]


def test_what_is_done_is_logged_and_the_source_is_not_touched(tmp_path: Path) -> None:
    source = write(tmp_path, ROWS)
    before = source.read_bytes()
    fixed = fix_file(task(tmp_path), tmp_path / "out.jsonl")
    assert source.read_bytes() == before
    assert read_jsonl(tmp_path / "out.jsonl") == [
        {"q": "one", "a": "x", "id": 1},
        {"q": "One!", "a": "y"},
        {"q": "café", "a": "x"},
    ]
    assert (fixed.read, fixed.written, fixed.changes) == (9, 3, 7)
    log = read_jsonl(fixed.log)
    assert [list(line) for line in log] == [
        ["row", "lint", "action", "where", "what", "before", "after"]
    ] * 8
    assert [(line["row"][-1], line["lint"], line["action"]) for line in log] == [
        ("2", "blank", "dropped"),
        ("3", "blank", "dropped"),
        ("4", "duplicates", "dropped"),
        ("5", "contradictions", "listed"),
        ("6", "encoding", "changed"),
        ("7", "duplicates", "dropped"),
        ("8", "blank", "dropped"),
        ("9", "blank", "dropped"),
    ]
    assert (log[4]["where"], log[4]["before"], log[4]["after"]) == ("q", "cafÃ© ", "café")
    assert log[0]["before"] == {"q": "two", "a": ""} and log[0]["after"] is None
    assert "the same as rows.jsonl line 1" in log[2]["what"]


def test_pairs_of_one_text_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, [{"q": "a", "chosen": "same", "rejected": "same "},
                     {"q": "a", "chosen": "good", "rejected": "bad"},
                     {"q": "a", "chosen": "good", "rejected": "worse"}])  # fmt: skip
    fix_file(task(tmp_path, "chat", output="{{ chosen }}"), tmp_path / "out.jsonl")
    assert [row["rejected"] for row in read_jsonl(tmp_path / "out.jsonl")] == ["bad", "worse"]


def test_conversations_and_templates_of_the_library(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi\x07"}, {"role": "assistant", "content": "yes "}]
    write(tmp_path, [{"m": turns}, {"m": turns}])
    talk = {"messages": "m", "input": None, "output": None}
    fix_file(task(tmp_path, "chat", **talk), tmp_path / "out.jsonl")
    (row,) = read_jsonl(tmp_path / "out.jsonl")
    assert [turn["content"] for turn in row["m"]] == ["hi", "yes"]


@pytest.mark.parametrize("out", ["rows.jsonl", "out.csv", "out"])
def test_files_that_are_not_written(tmp_path: Path, out: str) -> None:
    write(tmp_path, ROWS)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError):
        fix_file(task(tmp_path), tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_where_nothing_would_be_left_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path, [{"q": "", "a": ""}])
    with pytest.raises(InputError, match="none of 1 rows would be left"):
        fix_file(task(tmp_path), tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"q": st.one_of(TEXTS, st.none()), "a": st.sampled_from(["x", "y ", "", "x\x07"])},
            optional={"rejected": TEXTS, "n": st.integers() | st.floats(allow_nan=False)},
        ),
        max_size=8,
    ),
    st.sampled_from(["classification", "chat"]),
)
def test_fixing_the_fixed_rows_changes_nothing(rows: list[dict[str, Any]], kind: str) -> None:
    made = task(Path(), kind)
    first = list(fix_rows([SourceRow(row, f"row {n}") for n, row in enumerate(rows)], made, noted))
    changes: list[Change] = []
    again = list(fix_rows(first, made, changes.append))
    assert [row.values for row in again] == [row.values for row in first]
    assert {change.action for change in changes} <= {"listed"}


def noted(change: Change) -> None:
    json.dumps(change.to_dict())


@settings(deadline=None, max_examples=25)
@given(rows=st.lists(st.fixed_dictionaries({"q": TEXTS, "a": TEXTS}), min_size=1, max_size=6))
def test_through_files_the_second_file_has_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("fix")
    write(folder, [{"q": "kept", "a": "kept"}, *rows])
    fix_file(task(folder, "chat"), folder / "one.jsonl")
    fix_file(task(folder, "chat", train="one.jsonl"), folder / "two.jsonl")
    assert (folder / "one.jsonl").read_bytes() == (folder / "two.jsonl").read_bytes()
