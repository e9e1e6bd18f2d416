"""From a task to splits: recipes, ids, labels, and what is refused."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from luthier.data.examples import Message
from luthier.data.prepare import Prepared, prepare
from luthier.errors import InputError
from luthier.task import Task


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    path = folder / name
    if name.endswith(".csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def task(folder: Path, kind: str = "generation", **values: Any) -> Task:
    labels = {"labels": values.pop("labels")} if "labels" in values else {}
    data = {"train": "train.jsonl", **values}
    return Task.from_dict(
        {"name": "t", "kind": kind, "data": data, **labels}, path=folder / "task.yaml"
    )


def failure(made: Task) -> str:
    with pytest.raises(InputError) as caught:
        prepare(made)
    return str(caught.value)


QA = {"input": "{{ q }}", "output": "{{ a }}"}


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"q": f"question {n}", "a": f" answer {n} ", **more} for n in range(count)]


def everything(made: Prepared) -> list[Any]:
    return [e for _, part in made.splits.items() for e in part]


def test_rows_become_examples(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", rows(30, lang="en", score=0.5, nested={"x": 1}))
    made = prepare(task(tmp_path, **QA))
    assert made.labels is None
    assert len(everything(made)) == 30
    one = next(e for e in everything(made) if e.source == "train.jsonl line 3")
    assert one.messages == (Message("user", "question 2"),)
    assert one.output == "answer 2"
    assert one.fields == {"lang": "en", "score": 0.5}
    assert one.group is None
    assert any(note.startswith("test: 12 of 30 training rows were cut") for note in made.notes)


def test_paths_start_from_the_task_and_files_can_be_given(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", rows(30))
    write(tmp_path, "v.csv", rows(3))
    write(tmp_path, "t.csv", rows(4))
    made = prepare(task(tmp_path, **QA, validation="v.csv", test="t.csv"))
    assert [len(part) for _, part in made.splits.items()] == [30, 3, 4]
    assert [e.source for e in made.splits.test] == [f"t.csv row {n}" for n in range(1, 5)]


def test_ids_come_from_the_row_or_its_content(tmp_path: Path) -> None:
    twins = [{"q": "same", "a": "x"}] * 3 + rows(20)
    write(tmp_path, "train.jsonl", twins)
    made = everything(prepare(task(tmp_path, **QA)))
    ids = sorted(e.id for e in made if e.input == "same")
    assert ids == [ids[0], f"{ids[0]}-2", f"{ids[0]}-3"]
    assert len({e.id for e in made}) == 23

    write(tmp_path, "train.jsonl", [{**row, "id": n} for n, row in enumerate(rows(20))])
    assert {e.id for e in everything(prepare(task(tmp_path, **QA)))} == {str(n) for n in range(20)}


def test_two_rows_of_one_id_are_both_named(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", [*rows(5, id="a")[:1], *rows(5, id="a")[1:2], *rows(20)])
    message = failure(task(tmp_path, **QA))
    assert "train.jsonl line 1 and train.jsonl line 2 have the same id 'a'" in message


def test_blank_inputs_and_outputs_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", [*rows(5), {"q": "x", "a": " \n"}, {"q": "x", "a": None}])
    assert "2 of 7 rows have a blank output: train.jsonl line 6, train.jsonl line 7." in failure(
        task(tmp_path, **QA)
    )
    write(tmp_path, "train.jsonl", [*rows(5), {"q": "\t", "a": "x"}])
    assert "1 of 6 rows have a blank input: train.jsonl line 6." in failure(task(tmp_path, **QA))


def test_half_a_character_is_named(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", [*rows(5), {"q": "cut \ud83d", "a": "x"}])
    assert "train.jsonl line 6 holds \\ud83d alone" in failure(task(tmp_path, **QA))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", rows(5))
    message = failure(task(tmp_path, input="{{ quest }}", output="{{ a }}"))
    assert "`data.input` names the column 'quest'" in message
    assert "`data.group` names the column 'thread'" in failure(task(tmp_path, **QA, group="thread"))
    assert "`data.messages` names the column 'm'" in failure(task(tmp_path, messages="m"))


def test_a_column_that_some_rows_lack(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", [*rows(5), {"q": "x"}])
    message = failure(task(tmp_path, **QA))
    assert "the column 'a', which 1 of 6 rows do not have: train.jsonl line 6." in message


def test_groups_stay_together_and_shared_ones_are_noted(tmp_path: Path) -> None:
    grouped = [{**row, "thread": n // 3} for n, row in enumerate(rows(90))]
    write(tmp_path, "train.jsonl", grouped)
    made = prepare(task(tmp_path, **QA, group="thread"))
    where = [{e.group for e in part} for _, part in made.splits.items()]
    assert not where[0] & where[2] and not where[0] & where[1]
    assert not any("group:" in note for note in made.notes)
    write(tmp_path, "test.jsonl", [{"q": "new", "a": "b", "thread": 1}])
    made = prepare(task(tmp_path, **QA, group="thread", validation="test.jsonl", test="test.jsonl"))
    assert any(note.startswith("group: 1 group of column 'thread'") for note in made.notes)


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "more"},
    {"role": "assistant", "content": " all "},
]


@pytest.mark.parametrize("as_text", [False, True])
def test_conversations(tmp_path: Path, as_text: bool) -> None:
    talks = [[*TALK[:3], {"role": "user", "content": f"more {n}"}, TALK[4]] for n in range(20)]
    write(tmp_path, "train.jsonl", [{"m": json.dumps(t) if as_text else t} for t in talks])
    one = next(
        e
        for e in everything(prepare(task(tmp_path, "chat", messages="m")))
        if e.source.endswith(" 1")
    )
    assert [m.role for m in one.messages] == ["system", "user", "assistant", "user"]
    assert one.messages[0] == Message("system", "Be brief.")
    assert one.input == "more 0"
    assert one.output == "all"


@pytest.mark.parametrize(
    ("talk", "expected"),
    [
        (TALK[:4], "the last turn is the user's"),
        (TALK[:1], "the last turn is the system's"),
        (
            [TALK[1], TALK[1], TALK[2]],
            "turn 2 is user's, and after turn 1 (user) comes the assistant",
        ),
        ([TALK[2]], "turn 1 is assistant's, and first comes the user"),
        ([TALK[1], TALK[0], TALK[2]], "turn 2 is a system turn, which may only come first"),
        (
            [{"from": "human", "value": "x"}],
            "turn 1 has no role and content (its keys: from, value)",
        ),
        ([{"role": "tool", "content": "x"}], "turn 1 has the role 'tool'"),
        ([{"role": "user", "content": [1]}], "turn 1 has content that is no text"),
        ([], "is an empty list of turns"),
        ({"role": "user"}, "is no list of turns"),
        (3, "is no list of turns"),
        ("hello", "is text and no JSON"),
    ],
)
def test_conversations_of_a_wrong_shape(tmp_path: Path, talk: Any, expected: str) -> None:
    write(tmp_path, "train.jsonl", [{"m": TALK}, {"m": talk}])
    message = failure(task(tmp_path, "chat", messages="m"))
    assert "train.jsonl line 2, column 'm'" in message
    assert expected in message


def test_library_templates(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", [{"prompt": f"p{n}", "completion": "c"} for n in range(20)])
    assert everything(prepare(task(tmp_path, template="prompt-completion")))[0].output == "c"
    assert "Did you mean 'alpaca'" in failure(task(tmp_path, template="alpca"))
    lacking = failure(task(tmp_path, template="alpaca"))
    assert "`data.template: alpaca` needs 'instruction'" in lacking
    assert "Its columns: prompt, completion." in lacking


def classified(*counts: tuple[str, int]) -> list[dict[str, str]]:
    labels = [label for label, count in counts for _ in range(count)]
    return [{"q": f"question {n}", "a": label} for n, label in enumerate(labels)]


def test_labels_are_inferred_in_order(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", classified(("b", 20), ("a", 30)))
    made = prepare(task(tmp_path, "classification", **QA))
    assert made.labels == ("a", "b")
    assert "labels: 2 found in the training rows: a, b." in made.notes
    assert Counter(e.output for e in made.splits.test) == {"a": 12, "b": 8}


def test_listed_labels_keep_their_order(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", classified(("b", 20), ("a", 30)))
    made = prepare(task(tmp_path, "classification", **QA, labels=["b", "a", "c"]))
    assert made.labels == ("b", "a", "c")


def test_a_label_outside_is_named_with_its_row(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", classified(("ABBR", 20), ("DESC", 20), ("DES", 2)))
    message = failure(task(tmp_path, "classification", **QA, labels=["ABBR", "DESC"]))
    assert "train.jsonl line 41 has the label 'DES'" in message
    assert "2 rows have an output that is none" in message
    assert "Did you mean 'DESC'?" in message
    write(tmp_path, "train.jsonl", classified(("ABBR", 20), ("DESC", 20)))
    write(tmp_path, "test.jsonl", [{"q": "x", "a": "ABRB"}])
    message = failure(task(tmp_path, "classification", **QA, test="test.jsonl"))
    assert "test.jsonl line 1 has the label 'ABRB', which is not among the labels of" in message


def test_a_class_with_one_row_cannot_be_cut(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", classified(("a", 20), ("b", 20), ("c", 1)))
    message = failure(task(tmp_path, "classification", **QA))
    assert "1 class has one row: 'c' (train.jsonl line 41)" in message
    assert "Add rows of it, merge it with another class, or remove it." in message
    write(tmp_path, "other.jsonl", classified(("a", 3), ("c", 2)))
    whole = task(tmp_path, "classification", **QA, validation="other.jsonl", test="other.jsonl")
    assert len(prepare(whole).splits.train) == 41  # nothing is cut, so one row will do


def test_free_text_is_no_classification(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", rows(30))
    assert "That is free text" in failure(task(tmp_path, "classification", **QA))
    write(tmp_path, "train.jsonl", classified(("a", 30)))
    assert "Every training row has the output 'a'" in failure(
        task(tmp_path, "classification", **QA)
    )


def test_the_same_again(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", classified(("a", 60), ("b", 40)))
    made = task(tmp_path, "classification", **QA, limit={"train": 30})
    assert prepare(made) == prepare(made)
    assert len(prepare(made).splits.train) == 30
