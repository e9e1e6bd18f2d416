"""Real public data, where they are at hand, through the formats that they are in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from luthier.data.format import detect
from luthier.data.prepare import prepare
from luthier.data.reading import read_rows, stream_rows
from luthier.data.refused import Refused
from luthier.task import Task

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("slack/racket-2018.xml", "slack"),
        ("squad/dev-v1.1.rebuilt.json", "squad"),
        ("squad/dev-v2.0.rebuilt.json", "squad"),
        ("wnut17/wnut17train.conll", "conll"),
        ("wnut17/emerging.dev.conll", "conll"),
        ("multi30k/test.en", "parallel"),
        ("multi30k/train.{en,de}", "parallel"),
        ("preferences/dpo_en_demo.json", "preference"),
        ("preferences/kto_en_demo.json", "kto"),
        ("instructions/alpaca_en_demo.json", "alpaca"),
        ("preferences/pandalm-human.json", None),
        ("presidio_pii/generated_small.json", None),
        ("amazon_fashion/reviews.jsonl", None),
        ("banking77/train.csv", None),
        ("trec/test.csv", None),
        ("e2e/devset.csv", None),
        ("sst2/dev.jsonl", None),
        ("general/copa.jsonl", None),
    ],
)
def test_what_each_file_is(source: str, name: str | None) -> None:
    found = detect(source, DATA).format
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("source", "format", "count"),
    [
        ("squad/dev-v1.1.rebuilt.json", "auto", 10_570),
        ("squad/dev-v2.0.rebuilt.json", "auto", 11_873),
        ("wnut17/wnut17train.conll", "auto", 3_394),
        ("wnut17/emerging.dev.conll", "auto", 1_009),
        ("wnut17/emerging.test.annotated", "conll", 1_287),
        ("multi30k/train.{en,de}", "auto", 4_000),
        ("multi30k/validation.de", "auto", 1_014),
        ("preferences/dpo_en_demo.json", "auto", 300),
        ("preferences/kto_en_demo.json", "auto", 300),
        ("instructions/alpaca_5000.json", "auto", 5_000),
    ],
)
def test_every_record_is_a_row(source: str, format: str, count: int) -> None:
    refused = Refused()
    assert sum(1 for _ in stream_rows(source, DATA, format=format, refused=refused)) == count
    assert refused.count == 0


def test_a_slack_channel_of_a_year_becomes_conversations() -> None:
    rows = read_rows("slack/racket-2018.xml", DATA, format="slack")
    assert len(rows) > 4_000
    lines = {row.source for row in rows}
    assert len(lines) == len(rows)
    for row in rows:
        roles = [turn["role"] for turn in row.values["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert not any("<@" in turn["content"] for turn in row.values["messages"])
    authors = Counter(row.values["author"] for row in rows)
    who, count = authors.most_common(1)[0]
    of_one = read_rows("slack/racket-2018.xml", DATA, format=f"slack:{who}")
    assert of_one == [row for row in rows if row.values["author"] == who]
    assert len(of_one) == count


def prepared(kind: str, **data: Any) -> Any:
    data["split"] = {"near_duplicates": False}  # which takes its time, and is tested elsewhere
    return prepare(
        Task.from_dict({"name": "t", "kind": kind, "data": data}, path=DATA / "task.yaml")
    )


def test_tasks_that_say_only_where_the_rows_are() -> None:
    chat = prepared("chat", train="slack/racket-2018.xml", format="auto", group="thread")
    groups = [{e.group for e in part} for _, part in chat.splits.items()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    ner = prepared(
        "ner",
        train="wnut17/wnut17train.conll",
        validation="wnut17/emerging.dev.conll",
        format="auto",
        limit={"train": 500},
    )
    assert len(ner.splits.validation) == 1_009
    assert any(e.output != "none" for e in ner.splits.train)
    qa = prepared("qa", train="squad/dev-v2.0.rebuilt.json", format="auto", limit={"train": 300})
    assert "unanswerable" in {e.output for e in qa.splits.test}
