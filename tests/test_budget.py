"""What a run may take: what is said of it, what earlier calls took of it, which folder goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from html_pages import Page
from run_samples import write_task

import luthier
from luthier.arms.base import Fit, Workplace
from luthier.arms.zero_shot import ZeroShot
from luthier.progress import Reporter
from luthier.runs import Run


class Said(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The minutes that arm zero-shot was given, each time."""
    minutes: list[float] = []
    fit = ZeroShot.fit

    def watched(self: ZeroShot, place: Workplace) -> Fit:
        minutes.append(place.minutes)
        return fit(self, place)

    monkeypatch.setattr(ZeroShot, "fit", watched)
    return minutes


def test_what_earlier_calls_took_counts(
    tmp_path: Path, tiny_model: Path, given: list[float]
) -> None:
    task = write_task(tmp_path, tiny_model, arms=["majority"])
    run = luthier.run(task, out=tmp_path / "out", minutes=4)
    taken = run.manifest["seconds"]
    assert 0 < taken < 60
    run.update_manifest(seconds=60.0)
    arms = ["majority", "zero-shot"]
    again = luthier.run(task, out=tmp_path / "out", minutes=4, arms=arms, resume=True)
    assert given and 2.5 < given[0] <= 3.0  # of four minutes one was gone
    assert again.manifest["seconds"] > 60
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "(budget: 4 min)" in page.text()


def test_of_an_interrupted_run_its_finished_arms_count(tmp_path: Path, tiny_model: Path) -> None:
    task = write_task(tmp_path, tiny_model, arms=["majority"])
    luthier.run(task, out=tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    held = json.loads(manifest.read_text())
    del held["seconds"]
    manifest.write_text(json.dumps(held))
    record = tmp_path / "out" / "arms" / "majority" / "arm.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "seconds": 77.0}))
    assert Run(tmp_path / "out").spent() == 77.0


def test_named_arms_that_need_more_than_the_budget_are_told(
    tmp_path: Path, tiny_model: Path, given: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    task = write_task(tmp_path, tiny_model, arms=["majority", "zero-shot"])
    said = Said()
    luthier.run(task, out=tmp_path / "out", minutes=0.01, reporter=said)
    assert any("and the budget is 0.01: all are run" in line for line in said.lines)
    assert given  # and it is
    said = Said()
    luthier.run(task, out=tmp_path / "other", minutes=60, reporter=said)
    assert not any("the budget is" in line for line in said.lines)


def test_an_unfinished_run_is_gone_on_with_before_a_finished_one(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = write_task(tmp_path, tiny_model, arms=["majority"])
    first = luthier.run(task)
    (first.folder / "verdict.json").unlink()  # as if it had been interrupted
    said = Said()
    second = luthier.run(task, reporter=said)
    assert second.folder != first.folder
    ours, theirs = (run.folder.relative_to(Path.cwd()) for run in (second, first))
    assert f"Run folder: {ours}" in said.lines
    assert any(f"{theirs} holds this very run, unfinished" in line for line in said.lines)
    said = Said()
    assert luthier.run(task, resume=True, reporter=said).folder == first.folder
    assert (first.folder / "verdict.json").is_file()
    assert not any("unfinished" in line for line in said.lines)
    # all are finished: the newest
    assert luthier.run(task, resume=True).folder == second.folder


def test_an_oracle_below_what_it_should_bound_is_told() -> None:
    from luthier import comparison

    class One:
        def __init__(self, name: str, score: float) -> None:
            self.name, self.score = name, score

    class Compared:
        arms = (One("majority", 0.9), One("rag", 0.4), One("oracle", 0.3), One("closed-book", 0.1))

    held: Any = Compared()
    (said,) = comparison._low_ceilings(held)
    assert said.startswith("oracle is meant as an upper bound and scores below rag:")
    held.arms = held.arms[2:]
    assert comparison._low_ceilings(held) == []
