"""Real public data, where they are at hand: what is read, cut and found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from luthier.data.linting import Finding, LintContext, lint
from luthier.data.prepare import Prepared, prepare
from luthier.errors import InputError
from luthier.task import Task

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")


def made(kind: str, folder: Path = DATA, **data: Any) -> tuple[Prepared, list[Finding]]:
    task = Task.from_dict({"name": "t", "kind": kind, "data": data}, path=folder / "task.yaml")
    prepared = prepare(task)
    return prepared, lint(LintContext(task, prepared.splits, prepared.labels))


def sizes(prepared: Prepared) -> tuple[int, ...]:
    return tuple(len(part) for _, part in prepared.splits.items())


def test_trec() -> None:
    prepared, findings = made(
        "classification",
        train="trec/train.csv",
        test="trec/test.csv",
        input="{{ question }}",
        output="{{ kind }}",
        limit={"train": 500, "test": 200},
    )
    assert sizes(prepared) == (500, 100, 200)
    assert prepared.labels == ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
    assert min(Counter(e.output for e in prepared.splits.train).values()) >= 2
    assert not [f for f in findings if f.severity == "error"]


def test_sst2_is_clean() -> None:
    prepared, findings = made(
        "classification",
        train="sst2/train.jsonl",
        validation="sst2/dev.jsonl",
        test="sst2/test.jsonl",
        input="{{ sentence }}",
        output="{{ sentiment }}",
    )
    assert sizes(prepared) == (6920, 872, 1821)
    assert {f.severity for f in findings} <= {"note", "warning"}


def test_e2e_references_of_one_meaning_stay_together() -> None:
    prepared, findings = made(
        "generation", train="e2e/devset.csv", input="{{ mr }}", output="{{ ref }}"
    )
    inputs = [{e.input for e in part} for _, part in prepared.splits.items()]
    assert not inputs[0] & inputs[1] and not inputs[0] & inputs[2] and not inputs[1] & inputs[2]
    assert [f.severity for f in findings if f.lint == "contradictions"] == ["note"]


def test_amazon_reviews_repeat_themselves(tmp_path: Path) -> None:
    recipe = {"input": "{{ reviewText }}", "output": "{{ overall | int }}"}
    with pytest.raises(InputError, match="16 of 3176 rows do not have"):
        made("classification", train="amazon_fashion/reviews.jsonl", **recipe)
    lines = (DATA / "amazon_fashion" / "reviews.jsonl").read_text("utf-8").splitlines()
    kept = [line for line in lines if (json.loads(line).get("reviewText") or "").strip()]
    (tmp_path / "reviews.jsonl").write_text("\n".join(kept), "utf-8")
    prepared, findings = made("classification", tmp_path, train="reviews.jsonl", **recipe)
    assert prepared.labels == ("1", "2", "3", "4", "5")
    names = {f.lint for f in findings}
    assert "leakage" not in names
    assert {"duplicates", "contradictions"} <= names
    with pytest.raises(InputError, match="repeat an input from another group"):
        made("classification", tmp_path, train="reviews.jsonl", group="asin", **recipe)
    prepared, findings = made(
        "classification", tmp_path, train="reviews.jsonl", group="reviewerID", **recipe
    )
    assert not {"leakage", "shared_groups"} & {f.lint for f in findings}
