"""A task that names a template: fields, phrasings, labels, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luthier.data import streaming
from luthier.data.prepare import Prepared, prepare
from luthier.data.stored import Chosen
from luthier.data.template_library import library_template
from luthier.errors import InputError
from luthier.task import Task

FIRST = "Is this review negative, neutral or positive?"


def reviews(count: int = 60, **more: Any) -> list[dict[str, Any]]:
    return [
        {"body": f"Pair {n} of these shoes kept my feet warm", "stars": 1 + n % 5, **more}
        for n in range(count)
    ]


def task(
    folder: Path, rows: list[dict[str, Any]], kind: str = "classification", **data: Any
) -> Task:
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values: dict[str, Any] = {"template": "review-sentiment", "train": "t.jsonl", **data}
    return Task.from_dict({"name": "t", "kind": kind, "data": values}, path=folder / "task.yaml")


def failure(made: Task) -> str:
    with pytest.raises(InputError) as caught:
        prepare(made)
    return str(caught.value)


def inputs(made: Prepared, split: str) -> list[str]:
    return [example.input for example in getattr(made.splits, split)]


def test_the_first_phrasing_is_the_default_everywhere(tmp_path: Path) -> None:
    made = prepare(task(tmp_path, reviews()))
    for split in ("train", "validation", "test"):
        assert all(text.startswith(FIRST) for text in inputs(made, split))
    assert made.labels == ("negative", "neutral", "positive")
    assert "template review-sentiment version 1: text = body, rating = stars." in made.notes


def test_all_mixes_training_rows_and_leaves_the_evaluation_fixed(tmp_path: Path) -> None:
    plain = prepare(task(tmp_path, reviews()))
    mixed = prepare(task(tmp_path, reviews(), phrasing="all"))
    names = {example.fields["phrasing"] for example in mixed.splits.train if example.fields}
    assert names == set(library_template("review-sentiment").phrasings)
    for split in ("validation", "test"):
        assert inputs(mixed, split) == inputs(plain, split)
    # the same rows in the same splits under the same ids: phrasing moves nothing else
    assert [e.id for e in mixed.splits.train] == [e.id for e in plain.splits.train]
    assert [e.output for e in mixed.splits.train] == [e.output for e in plain.splits.train]
    assert mixed.notes[0] == (
        "phrasing: training rows have all 4 phrasings of review-sentiment; validation and test "
        "rows have phrasing plain."
    )
    again = prepare(task(tmp_path, reviews(), phrasing="all"))
    assert inputs(again, "train") == inputs(mixed, "train")
    other = prepare(task(tmp_path, reviews(), phrasing="all").changed(seed=1))
    said = {e.source: e.input for e in mixed.splits.train}
    assert any(said.get(e.source, e.input) != e.input for e in other.splits.train)


def test_a_named_phrasing_is_for_all_splits(tmp_path: Path) -> None:
    for wanted in ("labelled", 3, "3"):
        made = prepare(task(tmp_path, reviews(), phrasing=wanted))
        for split in ("train", "test"):
            assert all(text.startswith("Review: Pair") for text in inputs(made, split))


def test_the_evaluation_may_have_a_phrasing_of_its_own(tmp_path: Path) -> None:
    made = prepare(task(tmp_path, reviews(), phrasing="labelled", evaluation_phrasing="sort"))
    assert all(text.startswith("Review: ") for text in inputs(made, "train"))
    assert all(text.startswith("Sort the review") for text in inputs(made, "test"))
    mixed = prepare(task(tmp_path, reviews(200), evaluation_phrasing="all"))
    assert len({text.split()[0] for text in inputs(mixed, "test")}) > 2
    assert all(text.startswith(FIRST) for text in inputs(mixed, "train"))


def test_fields_are_mapped(tmp_path: Path) -> None:
    rows = [{"body": "nothing", "said": f"words number {n}", "mark": 1 + n % 5} for n in range(60)]
    made = prepare(task(tmp_path, rows, fields={"text": "said", "rating": "mark"}))
    assert "words number" in inputs(made, "train")[0]
    assert "needs 'rating'" in failure(task(tmp_path, rows))
    assert "data.fields: {rating: mark}" in failure(task(tmp_path, rows))
    assert "Did you mean 'said'" in failure(task(tmp_path, rows, fields={"text": "sayd"}))


def test_what_is_wrong_with_rows_is_counted(tmp_path: Path) -> None:
    rows = reviews()
    rows[3]["body"] = rows[7]["body"] = " "
    said = failure(task(tmp_path, rows))
    assert "`text` (column body) is blank in 2 of 60 rows: t.jsonl line 4, t.jsonl line 8" in said
    rows = [*reviews(), {"body": "fine", "stars": 9}]
    assert "it is 9, which is outside 1 to 5" in failure(task(tmp_path, rows))


def test_rows_the_template_leaves_out_are_noted(tmp_path: Path) -> None:
    made = prepare(task(tmp_path, reviews(), template="review-recommends"))
    assert sum(len(part) for _, part in made.splits.items()) == 48
    assert any("12 rows were left out: three stars recommend" in note for note in made.notes)
    three = [{**row, "stars": 3} for row in reviews()]
    assert "leaves out all 60 rows" in failure(task(tmp_path, three, template="review-recommends"))


def test_labels_to_choose_from_are_those_of_the_training_rows(tmp_path: Path) -> None:
    rows = [{"text": f"line {n}", "topic": ("art", "war", "law")[n % 3]} for n in range(60)]
    (tmp_path / "test.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows[:20] if row["topic"] != "war")
    )
    made = prepare(task(tmp_path, rows, template="topic", test="test.jsonl"))
    assert made.labels == ("art", "law", "war")
    assert all("art, law, war" in text for text in inputs(made, "test"))


def test_template_keys_are_checked(tmp_path: Path) -> None:
    assert "is no phrasing of review-sentiment" in failure(task(tmp_path, reviews(), phrasing="x"))
    assert "has 4 phrasings" in failure(task(tmp_path, reviews(), phrasing=5))
    assert "Did you mean" in failure(task(tmp_path, reviews(), evaluation_phrasing="sorted"))
    with pytest.raises(InputError, match="`phrasing` belongs to `template`"):
        task(tmp_path, reviews(), template=None, messages="m", phrasing="all")
    with pytest.raises(InputError, match=r"data\.fields"):
        task(tmp_path, reviews(), fields=["text"])


def test_a_task_with_a_template_is_written_and_read_again(tmp_path: Path) -> None:
    made = task(tmp_path, reviews(), phrasing=2, fields={"text": "body"})
    again = Task.from_dict(made.to_dict(), path=made.path)
    assert again.data == made.data


@pytest.mark.parametrize(
    ("template", "kind", "data"),
    [
        ("review-sentiment", "classification", {"phrasing": "all"}),
        ("review-sentiment", "classification", {"phrasing": "labelled", "refused": "skip"}),
        (
            "review-sentiment",
            "classification",
            {"evaluation_phrasing": "all", "test": "other.jsonl"},
        ),
        ("alpaca", "generation", {"phrasing": "all", "split": {"test": 0.3}}),
        ("text-label", "classification", {}),
    ],
)
def test_a_large_source_is_written_as_a_small_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    template: str,
    kind: str,
    data: dict[str, Any],
) -> None:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    rows = reviews(90)
    if template != "review-sentiment":
        rows = [
            {
                "instruction": f"say {n}",
                "output": f"o{n}",
                "text": f"a text {n}",
                "label": "xyz"[n % 3],
            }
            for n in range(90)
        ]
    lines = "".join(json.dumps(row) + "\n" for row in reviews(30, body="kept my feet dry"))
    (tmp_path / "other.jsonl").write_text(lines)
    made = task(tmp_path, rows, kind, template=template, **data)
    if data.get("refused"):
        with (tmp_path / "t.jsonl").open("a") as file:
            file.write("{broken\n")
    small = prepare(made)
    monkeypatch.setattr(streaming, "LARGE", 0)
    for _ in range(2):  # read, then from the cache
        large = prepare(made)
        assert isinstance(large.splits.train, Chosen)
        assert large.labels == small.labels
        assert large.notes == small.notes
        assert [row.source for row in large.refused.rows] == [
            row.source for row in small.refused.rows
        ]
        for (name, one), (_, other) in zip(small.splits.items(), large.splits.items(), strict=True):
            assert list(one) == list(other), name
