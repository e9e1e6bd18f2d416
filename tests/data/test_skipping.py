"""Rows that cannot be used: the work stops at the first, or goes on and says what was left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from distinct_texts import text
from run_samples import luthier

from luthier.data import streaming
from luthier.data.linting import LintContext, lint
from luthier.data.prepare import prepare
from luthier.data.texts import prepare_texts
from luthier.errors import InputError
from luthier.task import Task

GOOD = [{"id": str(n), "q": text(n), "a": "yes" if n % 2 else "no"} for n in range(60)]
BAD = {
    '{"q": "cut': "line 11",
    '{"id": "x", "q": "no answer"}': "line 12",
    '{"id": "y", "q": "blank answer", "a": " "}': "line 13",
    '{"id": "3", "q": "an id that is taken", "a": "no"}': "line 14",
    '{"id": "z", "q": "half \\ud83d a sign", "a": "no"}': "line 15",
    '{"id": "w", "q": "", "a": "no"}': "line 16",
}


def task(folder: Path, lines: list[str] | None = None, **data: Any) -> Task:
    held = [json.dumps(row) for row in GOOD]
    held[10:10] = list(BAD) if lines is None else lines
    (folder / "rows.jsonl").write_text("\n".join(held), "utf-8")
    ways = {} if "text" in data else {"input": "{{ q }}", "output": "{{ a }}"}
    values = {
        "name": "t",
        "kind": "classification",
        "instruction": "Say yes or no.",
        "data": {"train": "rows.jsonl", **ways, **data},
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return Task.load(folder / "task.yaml")


@pytest.fixture(params=["in memory", "in files"])
def large(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    if request.param == "in files":
        monkeypatch.setattr(streaming, "LARGE", 0)
    return bool(request.param == "in files")


def test_the_work_stops_unless_the_task_says_otherwise(tmp_path: Path, large: bool) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl line 11"):
        prepare(task(tmp_path))
    with pytest.raises(InputError, match=r"rows\.jsonl line 11"):
        prepare(task(tmp_path, refused="stop"))


def test_what_cannot_be_used_is_left_out_counted_and_named(tmp_path: Path, large: bool) -> None:
    whole = prepare(task(tmp_path, []))
    made = task(tmp_path, refused="skip")
    for _ in range(2):  # the second time from the cache, where there is one
        prepared = prepare(made)
        for (_, one), (_, other) in zip(whole.splits.items(), prepared.splits.items(), strict=True):
            assert [(e.id, e.input, e.output) for e in one] == [
                (e.id, e.input, e.output) for e in other
            ]
        refused = prepared.refused
        assert [row.source for row in refused.rows] == [f"rows.jsonl {at}" for at in BAD.values()]
        assert refused.count == len(BAD) == sum(refused.reasons.values())
        assert "rows.jsonl: 6 of 66 rows cannot be used and were left out" in prepared.notes[0]
    said = " ".join(row.reason for row in refused.rows)
    for reason in ("'a'", "blank output", "blank input", "same id '3'", "half of a character"):
        assert reason in said


def test_they_are_a_finding(tmp_path: Path) -> None:
    prepared = prepare(task(tmp_path, refused="skip"))
    context = LintContext(task(tmp_path), prepared.splits, refused=prepared.refused)
    (found,) = (finding for finding in lint(context) if finding.lint == "refused_rows")
    assert found.severity == "warning"
    assert found.count == 6
    assert found.rows[0] == "rows.jsonl line 11"
    assert found.message.startswith("6 rows could not be used and were left out: ")
    clean = prepare(task(tmp_path, [], refused="skip"))
    context = LintContext(task(tmp_path), clean.splits, refused=clean.refused)
    assert not [finding for finding in lint(context) if finding.lint == "refused_rows"]


@pytest.mark.parametrize("how", ["stop", "skip"])
def test_a_check_lists_them_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, large: bool
) -> None:
    task(tmp_path, refused=how)
    code, printed, _ = luthier(capsys, "check", tmp_path, "--refused")
    assert code == 1
    lines = printed.splitlines()
    for at, line in zip(BAD.values(), lines, strict=False):
        assert f"rows.jsonl {at}" in line
    assert "6 rows cannot be used:" in lines
    assert any("names the column 'a', which the row does not have" in line for line in lines)
    code, printed, _ = luthier(capsys, "check", tmp_path, "--refused", "--json")
    assert code == 1
    document = json.loads(printed)
    assert document["count"] == 6
    assert [row["source"] for row in document["rows"]] == [f"rows.jsonl {a}" for a in BAD.values()]
    assert all(row["reason"] for row in document["rows"])
    task(tmp_path, [])
    code, printed, _ = luthier(capsys, "check", tmp_path, "--refused")
    assert (code, printed.strip()) == (0, "Every row can be used.")


def test_a_wrong_task_is_no_matter_of_rows(tmp_path: Path, large: bool) -> None:
    with pytest.raises(InputError, match="'query'"):
        prepare(task(tmp_path, [], input="{{ query }}", refused="skip"))
    (tmp_path / "rows.jsonl").write_text('{"q": "a", "a": ""}\n' * 3, "utf-8")
    made = Task.load(tmp_path / "task.yaml").changed(
        data={"train": "rows.jsonl", "input": "{{ q }}", "output": "{{ a }}", "refused": "skip"}
    )
    with pytest.raises(InputError, match="none of its 3 rows can be used"):
        prepare(made)


def test_raw_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = task(tmp_path, text="{{ q }}", refused="skip")
    prepared = prepare_texts(made)
    assert prepared.refused.count == 1
    assert any("1 rows of rows.jsonl cannot be used" in note for note in prepared.notes)
    with pytest.raises(InputError, match="line 11"):
        prepare_texts(task(tmp_path, text="{{ q }}"))
    code, printed, _ = luthier(capsys, "check", tmp_path, "--refused")
    assert code == 1
    assert "rows.jsonl line 11" in printed
    assert "1 row cannot be used:" in printed


def test_another_word_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.refused"):
        task(tmp_path, refused="ignore")
