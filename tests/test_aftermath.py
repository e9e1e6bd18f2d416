"""Runs and stages that look at what was forgotten and what was learned by heart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_samples import write_task

import luthier
from luthier.aftermath import aftermath_seconds
from luthier.data.examples import Example, Message
from luthier.errors import InputError
from luthier.evaluation.probe_items import Probe, Probes
from luthier.progress import Reporter
from luthier.task import Task


class Said(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, list[str]]:
    """A run of a classification with probes of its own and two canaries."""
    home = tmp_path_factory.mktemp("aftermath")
    rows = [{"query": f"{i} is", "choices": ["odd", "even"], "gold": (i + 1) % 2} for i in range(9)]
    rows += [{"context": "one two three", "continuation": "four"}]
    (home / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write_task(
        home,
        tiny_model,
        rows=90,
        arms=["majority", "lora"],
        forgetting={"probes": ["mine.jsonl", "general"], "limit": 8},
        training={"epochs": 1, "batch_size": 8, "canaries": 2},
    )
    said = Said()
    luthier.run(path, out=home / "out", reporter=said)
    return home / "out", said.lines


def test_a_run_with_probes_of_its_own(ran: tuple[Path, list[str]]) -> None:
    out, said = ran
    majority, lora = json.loads((out / "verdict.json").read_text())["arms"]
    assert majority["forgetting"] is None
    assert majority["memorisation"] is None
    assert lora["forgetting"]["probes"]["mine"]["n"] == 8
    assert lora["forgetting"]["bits_per_byte"]["n"] == 24
    assert any("8 of 10 rows are asked" in line for line in said)
    # the folder alone names the file
    assert Task.load(out / "task.yaml").forgetting.probes == (
        str(out.parent / "mine.jsonl"),
        "general",
    )


def test_canaries_are_planted_where_weights_change_and_said(ran: tuple[Path, list[str]]) -> None:
    out, said = ran
    assert any("2 invented secrets" in line and "3 rows more" in line for line in said)
    _, lora = json.loads((out / "verdict.json").read_text())["arms"]
    tests = lora["memorisation"]["tests"]
    assert tests["canaries"]["planted"] == 2
    assert list(tests["canaries"]["by_repeats"]) == ["1", "2"]
    assert "canary" not in (out / "data" / "train.jsonl").read_text()


def test_the_report_has_the_panel(ran: tuple[Path, list[str]]) -> None:
    page = (ran[0] / "report.html").read_text()
    assert 'id="memorisation"' in page
    assert "Planted secrets" in page
    assert "Bits per byte" in page


def test_memorisation_can_be_left_out(tmp_path: Path, tiny_model: Path) -> None:
    path = write_task(tmp_path, tiny_model, arms=["lora"], memorisation=False)
    found = luthier.run(path, out=tmp_path / "out")
    (lora,) = found.verdict["arms"]
    assert lora["memorisation"] is None
    assert lora["forgetting"]["drop"] is not None
    assert 'id="memorisation"' not in (tmp_path / "out" / "report.html").read_text()


def test_bad_probes_are_told_before_anything_is_spent(tmp_path: Path, tiny_model: Path) -> None:
    path = write_task(tmp_path, tiny_model, arms=["lora"], forgetting={"probes": ["no.jsonl"]})
    with pytest.raises(InputError, match=r"no\.jsonl"):
        luthier.run(path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_stage_is_looked_at_where_the_task_says_so(tmp_path: Path, tiny_model: Path) -> None:
    epoch = {"epochs": 1}
    path = write_task(tmp_path, tiny_model, memorisation=True, training=epoch)
    luthier.train(path, out=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "memorisation.json").read_text())
    assert "canaries" not in found["tests"] and "membership" in found["tests"]
    labels = {**epoch, "objective": "sequence-classification"}
    path = write_task(tmp_path, tiny_model, memorisation=True, training=labels)
    said = Said()
    luthier.train(path, out=tmp_path / "head", method="head", reporter=said)
    assert any("memorisation: not looked for" in line for line in said.lines)
    assert not (tmp_path / "head" / "memorisation.json").exists()
    path = write_task(tmp_path, tiny_model, memorisation=False, training={**epoch, "canaries": 2})
    luthier.train(path, out=tmp_path / "planted")
    assert not (tmp_path / "planted" / "memorisation.json").exists()


def test_a_stage_with_canaries_is_looked_at(tmp_path: Path, tiny_model: Path) -> None:
    training = {"epochs": 1, "canaries": 4}
    path = write_task(tmp_path, tiny_model, training=training)
    said = Said()
    luthier.train(path, out=tmp_path / "out", reporter=said)
    found = json.loads((tmp_path / "out" / "memorisation.json").read_text())
    assert found["tests"]["canaries"]["planted"] == 4
    assert any("4 invented secrets" in line for line in said.lines)
    labelled = write_task(
        tmp_path, tiny_model, training={**training, "objective": "sequence-classification"}
    )
    with pytest.raises(InputError, match=r"training\.canaries"):
        luthier.train(labelled, out=tmp_path / "other", method="head")


def test_a_chain_of_stages_is_probed(tmp_path: Path, tiny_model: Path) -> None:
    stages = [{"name": "first", "training": {"epochs": 1}}, {"name": "second"}]
    path = write_task(tmp_path, tiny_model, stages=stages)
    said = Said()
    luthier.train(path, out=tmp_path / "out", reporter=said)
    found = json.loads((tmp_path / "out" / "forgetting.json").read_text())
    assert list(found) == ["first", "second"]
    assert found["first"]["since_base"] == found["first"]["since_previous"]
    for one in found.values():
        low, high = one["since_base"]["interval"]
        assert low <= one["since_base"]["drop"] <= high
        assert one["since_previous"]["bits_per_byte"]["n"] == 24
    assert sum("general ability lost" in line for line in said.lines) == 2


def test_what_looking_back_takes_is_foreseen(tmp_path: Path, tiny_model: Path) -> None:
    rows = [
        Example(str(n), (Message("user", f"question {n} of many"),), "an answer")
        for n in range(300)
    ]
    probes = Probes(questions=(Probe("1", "a", "q" * 4000, ("x", "y"), 0),))

    def seconds(**sections: object) -> float:
        path = write_task(tmp_path, tiny_model, arms=["lora"], **sections)
        task = Task.load(path)
        return aftermath_seconds(task, rows, rows[:50], probes, model=task.model)

    plain = seconds()
    assert plain > 0
    looked = seconds(memorisation=True)
    assert looked > plain
    planted = seconds(training={"canaries": 8})
    # 8 canaries, 400 codes of 11 characters each, by two models
    assert planted - looked == pytest.approx(plain * 2 * 8 * 400 * 11 / (4002 / 4), rel=0.01)
    assert seconds(training={"canaries": 8}, memorisation=False) == pytest.approx(plain)
