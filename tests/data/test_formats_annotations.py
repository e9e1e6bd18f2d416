"""Exports of annotation studios: plain columns for what was seen and what was answered."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from luthier.data.examples import Example
from luthier.data.format import detect
from luthier.data.prepare import prepare
from luthier.data.reading import read_rows, stream_rows
from luthier.data.refused import Refused
from luthier.errors import InputError
from luthier.task import Task


def written(folder: Path, name: str, values: list[dict[str, Any]]) -> str:
    path = folder / name
    if name.endswith(".csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(values[0]))
            table.writeheader()
            table.writerows(values)
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(one) + "\n" for one in values))
    else:
        path.write_text(json.dumps(values))
    return name


def read(folder: Path, values: list[dict[str, Any]], name: str = "t.json") -> list[dict[str, Any]]:
    return [row.values for row in read_rows(written(folder, name, values), folder, format="auto")]


def recipe(folder: Path, values: list[dict[str, Any]], name: str = "t.json") -> dict[str, str]:
    found = detect(written(folder, name, values), folder).recipe
    return found.keys() if found is not None else {}


def result(question: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"from_name": question, "to_name": "text", "type": kind, "value": value}


def labelled(
    data: dict[str, Any], *annotations: list[dict[str, Any]] | dict[str, Any], **more: Any
) -> dict[str, Any]:
    """A Label Studio task; an annotation is its results, or the whole of it."""
    held = [
        one if isinstance(one, dict) else {"completed_by": n, "result": one}
        for n, one in enumerate(annotations, 1)
    ]
    return {"id": 7, "data": data, "annotations": held, **more}


def choice(*values: str) -> list[dict[str, Any]]:
    return [result("mood", "choices", {"choices": list(values)})]


# --- Label Studio


def test_label_studio_choices_and_their_recipe(tmp_path: Path) -> None:
    task = labelled({"text": "Lovely"}, choice("good"))
    assert read(tmp_path, [task]) == [
        {"text": "Lovely", "mood": "good", "mood_annotator": "1", "id": 7}
    ]
    assert recipe(tmp_path, [task]) == {"input": "{{ text }}", "output": "{{ mood }}"}


def test_label_studio_kinds_of_answers(tmp_path: Path) -> None:
    task = labelled(
        {"text": "Ann lives in Rome"},
        [
            result("stars", "rating", {"rating": 4}),
            result("count", "number", {"number": 2}),
            result("topics", "choices", {"choices": ["a", "b"]}),
            result("note", "textarea", {"text": ["one", "two"]}),
            result("tree", "taxonomy", {"taxonomy": [["Food", "Fish"], ["Drink"]]}),
            result("better", "pairwise", {"selected": "left"}),
            result("order", "ranker", {"ranker": {"best": ["b", "a"]}}),
            result("ner", "labels", {"start": 13, "end": 17, "text": "Rome", "labels": ["LOC"]}),
            result("ner", "labels", {"start": 0, "end": 3, "labels": ["PER"]}),
            {"type": "relation", "from_id": "x", "to_id": "y", "labels": ["in"]},
        ],
        predictions=[{"model_version": "m", "result": choice("bad")}],
    )
    [row] = read(tmp_path, [task])
    assert {k: v for k, v in row.items() if not k.endswith("_annotator")} == {
        "text": "Ann lives in Rome",
        "stars": 4,
        "count": 2,
        "topics": "a, b",
        "note": "one\ntwo",
        "tree": "Food/Fish, Drink",
        "better": "left",
        "order": {"best": ["b", "a"]},
        "ner": [
            {"start": 0, "end": 3, "text": "Ann", "label": "PER"},
            {"start": 13, "end": 17, "text": "Rome", "label": "LOC"},
        ],
        "relations": [{"from_id": "x", "to_id": "y", "labels": ["in"]}],
        "mood_suggestion": "bad",
        "id": 7,
    }
    assert recipe(tmp_path, [task]) == {}


def test_label_studio_several_annotators(tmp_path: Path) -> None:
    bad = {"completed_by": {"email": "c@x.org"}, "result": choice("bad")}
    most = labelled({"text": "a"}, choice("good"), choice("bad"), bad)
    [row] = read(tmp_path, [most])
    assert row["mood"] == "bad"
    assert row["mood_answers"] == ["good", "bad", "bad"]
    assert row["mood_annotators"] == ["1", "2", "c@x.org"]
    tie = labelled({"text": "a"}, choice("good"), choice("bad"))
    assert read(tmp_path, [tie])[0]["mood"] == "good"
    truth = {"completed_by": 9, "ground_truth": True, "result": choice("fair")}
    assert read(tmp_path, [labelled({"text": "a"}, bad, bad, truth)])[0]["mood"] == "fair"
    skipped = {"completed_by": 9, "was_cancelled": True, "result": choice("fair")}
    assert read(tmp_path, [labelled({"text": "a"}, skipped, choice("bad"))])[0]["mood"] == "bad"


def test_label_studio_items_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    skipped = {"completed_by": 1, "was_cancelled": True, "result": choice("good")}
    items = [labelled({"text": "a"}), labelled({"text": "b"}, skipped)]
    with pytest.raises(InputError, match="none of its items has a finished answer"):
        read(tmp_path, items)
    name = written(tmp_path, "t.json", [*items, labelled({"text": "c"}, choice("good"))])
    assert len(read_rows(name, tmp_path, format="auto")) == 1
    refused = Refused()
    [row] = stream_rows(name, tmp_path, format="auto", refused=refused)
    assert row.values["text"] == "c"
    assert [row.source for row in refused.rows] == ["t.json row 1", "t.json row 2"]


def test_label_studio_a_text_with_nothing_to_mark_is_an_example(tmp_path: Path) -> None:
    marked = [result("ner", "labels", {"start": 0, "end": 3, "text": "Ann", "labels": ["PER"]})]
    items = [
        labelled({"text": "Nothing"}, []),
        labelled({"text": "Ann sings"}, marked),
        labelled({"text": "Nor here"}, []),
        labelled({"text": "not looked at"}),
    ]
    for number, item in enumerate(items):
        item["id"] = number
    made = read(tmp_path, items)
    assert [len(row["ner"]) for row in made] == [0, 1, 0]
    made_of = examples(tmp_path, items, "ner")
    assert {e.messages[-1].content: e.output for e in made_of} == {
        "Nothing": "none",
        "Ann sings": "PER: Ann",
        "Nor here": "none",
    }


def test_label_studio_chats_become_conversations(tmp_path: Path) -> None:
    def message(role: str, content: str, at: int) -> dict[str, Any]:
        value = {"role": role, "content": content, "createdAt": f"2024-01-01T00:00:0{at}Z"}
        return result("chat", "chatmessage", {"chatmessage": value})

    said = [message("assistant", "Hello", 2), message("user", "Hi", 1)]
    [row] = read(tmp_path, [labelled({"topic": "x"}, said)])
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert row["messages"] == talk
    assert recipe(tmp_path, [labelled({"topic": "x"}, said)]) == {"messages": "messages"}
    asked = [{"role": "user", "content": "Hi"}]
    answer = [result("reply", "textarea", {"text": ["Hello"]})]
    item = labelled({"turns": asked}, answer)
    assert read(tmp_path, [item])[0]["messages"] == talk
    assert recipe(tmp_path, [item]) == {"messages": "messages"}


def test_label_studio_min_and_csv(tmp_path: Path) -> None:
    about = {"annotator": 3, "annotation_id": 9, "created_at": "2024", "updated_at": "2024",
             "lead_time": 1.5}  # fmt: skip
    spans = [{"start": 0, "end": 3, "text": "Ann", "labels": ["PER"]}]
    row = {
        "text": "Ann", "id": 1, "mood": "good", "topics": {"choices": ["a", "b"]},
        "stars": [{"rating": 4}], "ner": spans, **about,
    }  # fmt: skip
    wanted = {
        "text": "Ann",
        "mood": "good",
        "mood_annotator": "3",
        "topics": "a, b",
        "topics_annotator": "3",
        "stars": 4,
        "stars_annotator": "3",
        "ner": [{"start": 0, "end": 3, "text": "Ann", "label": "PER"}],
        "ner_annotator": "3",
        "task_id": 1,
        "created_at": "2024",
    }
    assert read(tmp_path, [row]) == [wanted]
    text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()}
    assert read(tmp_path, [text], "t.csv") == [wanted | {"task_id": "1"}]
    small = {"text": "Ann", "id": 1, "mood": "good", **about}
    assert recipe(tmp_path, [small]) == {"input": "{{ text }}", "output": "{{ mood }}"}


def test_label_studio_broken_items_are_refused(tmp_path: Path) -> None:
    name = written(
        tmp_path,
        "t.json",
        [
            *[labelled({"text": "a"}, choice("good"))] * 8,
            {"id": 1, "data": {"text": "a"}},
            labelled({"text": "a"}, [{"value": {"choices": ["x"]}}]),
        ],
    )
    refused = Refused()
    assert len(list(stream_rows(name, tmp_path, format="auto", refused=refused))) == 8
    assert "no `data` with `annotations`" in refused.rows[0].reason
    assert "no from_name, type and value" in refused.rows[1].reason


# --- SuperAnnotate


def item(data: dict[str, Any], **more: Any) -> dict[str, Any]:
    metadata = {
        "name": "item_1", "folder_name": "root", "item_category": {"value": "news"}, "id": 5,
        "etag": "x", "lastAction": {"email": "a@x.org", "timestamp": 1},
    }  # fmt: skip
    return {"metadata": metadata | more, "data": data}


ABOUT = {"_item_name": "item_1", "_item_category": "news", "_folder": "root"}


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_superannotate_components_are_columns(tmp_path: Path, name: str) -> None:
    values = item(
        {
            "prompt": {"value": "Why?"},
            "response": {"value": "Because"},
            "r_stars": {"value": 4},
            "r_turn": [
                {"element_path": [0, 10], "value": "third"},
                {"element_path": [0, 2], "value": "second"},
                {"element_path": [0, 0], "value": "first"},
            ],
            "r_none": {"value": None},
        }
    )
    assert read(tmp_path, [values], name) == [
        {
            "prompt": "Why?",
            "response": "Because",
            "r_stars": 4,
            "r_turn": ["first", "second", "third"],
            "r_none": None,
            **ABOUT,
            "_annotator": "a@x.org",
        }
    ]
    told = {"input": "{{ prompt }}", "output": "{{ response }}"}
    assert recipe(tmp_path, [values], name) == told
    assert recipe(tmp_path, [item({"r_a": {"value": "x"}, "r_b": {"value": "y"}})], name) == {}


def test_superannotate_csv_and_a_category_as_text(tmp_path: Path) -> None:
    values = {**ABOUT, "prompt": "Why?", "r_tags": '["a", "b"]'}
    assert read(tmp_path, [values], "t.csv") == [values | {"r_tags": ["a", "b"]}]
    assert detect("t.csv", tmp_path).sentence.startswith("t.csv: read as a SuperAnnotate export")
    [row] = read(tmp_path, [item({"a": {"value": 1}}, item_category="news")])
    assert row["_item_category"] == "news"


# --- Argilla


def flat(**more: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "status": "completed",
        "text": "Ann lives in Rome",
        "source": 3,
        "mood.responses": ["bad", "good", "good", "bad", "bad"],
        "mood.responses.users": ["u1", "u2", "u3", "u4", "u5"],
        "mood.responses.status": ["submitted", "submitted", "submitted", "discarded", "draft"],
        "mood.suggestion": "bad",
        "mood.suggestion.score": 0.7,
        "mood.suggestion.agent": "m",
        **more,
    }


def test_argilla_flat(tmp_path: Path) -> None:
    assert read(tmp_path, [flat()]) == [
        {
            "text": "Ann lives in Rome",
            "source": 3,
            "mood": "good",
            "mood_answers": ["bad", "good", "good"],
            "mood_annotators": ["u1", "u2", "u3"],
            "mood_suggestion": "bad",
            "id": "r1",
            "status": "completed",
        }
    ]
    assert recipe(tmp_path, [flat()]) == {"input": "{{ text }}", "output": "{{ mood }}"}


def test_argilla_lists_spans_and_names_that_are_no_words(tmp_path: Path) -> None:
    row = {
        "Full text": "Ann lives in Rome",
        "the tags.responses": [["a", "b"]],
        "ner.responses": [[{"start": 13, "end": 17, "label": "LOC"}]],
        "ner.responses.status": ["submitted"],
    }
    [made] = read(tmp_path, [row])
    assert made["the tags"] == "a, b"
    assert made["ner"] == [{"start": 13, "end": 17, "text": "Rome", "label": "LOC"}]
    del row["the tags.responses"]
    told = recipe(tmp_path, [row])
    assert told["input"] == '{{ row["Full text"] }}'
    [only] = examples(tmp_path, [row], "ner", least=1)
    assert (only.messages[-1].content, only.output) == ("Ann lives in Rome", "LOC: Rome")


def test_argilla_records_and_chats(tmp_path: Path) -> None:
    record = {
        "id": "r1",
        "fields": {"chat": [{"role": "user", "content": "Hi"}]},
        "metadata": {"lang": "en"},
        "suggestions": {"reply": {"value": "Hey", "score": None, "agent": None}},
        "responses": {"reply": [{"value": "Hello", "user_id": "u1", "status": "submitted"}]},
    }
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert read(tmp_path, [record]) == [
        {
            "chat": [{"role": "user", "content": "Hi"}],
            "messages": talk,
            "reply": "Hello",
            "reply_annotator": "u1",
            "reply_suggestion": "Hey",
            "lang": "en",
            "id": "r1",
        }
    ]
    assert recipe(tmp_path, [record]) == {"messages": "messages"}


def test_argilla_pending_records_are_left_out(tmp_path: Path) -> None:
    pending = flat(**{"mood.responses": None, "mood.responses.users": None})
    assert len(read(tmp_path, [flat(), pending])) == 1


# --- the recipe in a task


def examples(
    folder: Path, values: list[dict[str, Any]], kind: str, *, least: int = 3
) -> list[Example]:
    """The examples of a task that says nothing but where the rows are."""
    from luthier.data.recipes import make_examples
    from luthier.data.sources import understood

    name = written(folder, "t.json", values)
    data = {"train": name, "format": "auto"}
    task = Task.from_dict({"name": "t", "kind": kind, "data": data}, path=folder / "task.yaml")
    made = make_examples(read_rows(name, folder, format="auto"), understood(task).data)
    assert len(made) >= least
    return made


def test_a_task_takes_the_recipe_of_its_format(tmp_path: Path) -> None:
    items = [
        labelled({"text": f"text {n}"}, choice("good" if n % 2 else "bad")) | {"id": n}
        for n in range(60)
    ]
    written(tmp_path, "t.json", items)
    values = {
        "name": "t",
        "kind": "classification",
        "data": {"train": "t.json", "format": "label-studio"},
    }
    prepared = prepare(Task.from_dict(values, path=tmp_path / "task.yaml"))
    assert prepared.labels == ("bad", "good")
    assert prepared.notes[0] == (
        "t.json: read as a Label Studio export (its data, and an answer to each question), as "
        "`format` says."
    )
    assert sum(len(part) for _, part in prepared.splits.items()) == 60


def test_rows_that_only_begin_like_argilla_are_a_table(tmp_path: Path) -> None:
    rows = [{"fields": {"a": 1}, "responses": {"x": [{"value": 1}]}, "suggestions": 5}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert detect("rows.json", tmp_path).format is None
