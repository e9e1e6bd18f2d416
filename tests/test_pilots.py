"""Several seeds and pilot fits, in whole runs on a tiny model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from html_pages import Page
from hypothesis import given, settings
from hypothesis import strategies as st
from run_samples import luthier as command
from run_samples import read_jsonl, write_task, write_tiny_encoder

import luthier
from luthier.arms import classifier
from luthier.arms.base import ARMS, Workplace
from luthier.arms.classifier import ClassifierArm
from luthier.arms.linear_probe import LinearProbe
from luthier.arms.tuned import TunedArm
from luthier.data.examples import Example, Message
from luthier.pilots import SHARES, chosen_arm, missing_curves, part_of, plan
from luthier.results import finished
from luthier.runs import Run
from luthier.verdict.report import build_report

Lora = ARMS.get("lora")


def example(number: int, group: str | None = None) -> Example:
    return Example(str(number), (Message("user", f"question {number}"),), "answer", group=group)


# ---- what is planned -----------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(60, 5000), st.floats(0, 500), st.floats(0.01, 100), st.floats(0, 5000))
def test_plans_keep_to_the_time(rows: int, fit: float, answer: float, seconds: float) -> None:
    pilots = plan(rows, fit, answer, seconds)
    assert sum(pilot.seconds for pilot in pilots) <= seconds + 1e-6
    sizes = {pilot.examples for pilot in pilots}
    assert not pilots or len(sizes) >= 2
    for share, most in SHARES:
        size = max(2, round(share * rows))
        assert sum(pilot.examples == size for pilot in pilots) <= most
    assert len({pilot.folder("lora") for pilot in pilots}) == len(pilots)


@settings(deadline=None)
@given(st.integers(60, 5000), st.floats(1, 500), st.integers(0, 8), st.floats(0, 5000))
def test_pilots_of_an_interrupted_run_take_no_time_again(
    rows: int, fit: float, finished: int, seconds: float
) -> None:
    first = plan(rows, fit, 1.0, seconds)
    done = {(pilot.examples, pilot.number) for pilot in first[:finished]}
    spent = sum(pilot.seconds for pilot in first[:finished])
    again = plan(rows, fit, 1.0, seconds - spent + 1e-6, done)
    # what was planned is still planned, with the time that is left
    assert {(p.examples, p.number) for p in first} <= {(p.examples, p.number) for p in again}
    assert all(p.seconds == 0 for p in again if (p.examples, p.number) in done)


def test_time_without_end_fits_them_all() -> None:
    pilots = plan(500, 100, 10, float("inf"))
    assert len(pilots) == sum(most for _, most in SHARES)
    assert {pilot.examples for pilot in pilots} == {50, 125, 250}
    assert pilots[0].seconds == pytest.approx(100 * 0.1 + 10)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.data())
def test_parts_are_draws_of_whole_groups(rows: int, groups: int, data: st.DataObject) -> None:
    examples = [example(i, f"g{i % groups}") for i in range(rows)]
    size = data.draw(st.integers(1, rows))
    part = part_of(examples, size, "0")
    assert len(part) == size == len({one.id for one in part})
    assert part == part_of(list(reversed(examples)), size, "0") or groups < rows
    partly = [
        name
        for name in {one.group for one in part}
        if sum(one.group == name for one in part) < sum(one.group == name for one in examples)
    ]
    assert len(partly) <= 1


def test_parts_differ_by_seed_alone() -> None:
    examples = [example(i) for i in range(50)]
    names = [[one.id for one in part_of(examples, 10, seed)] for seed in ("1", "1", "2")]
    assert names[0] == names[1] != names[2]


def test_whose_curve() -> None:
    scores = {"majority": 0.2, "linear-probe": 0.7, "lora": 0.8, "few-shot": 0.9}
    assert chosen_arm(scores, "linear-probe") == "linear-probe"
    assert chosen_arm(scores, "few-shot") == "lora"
    assert chosen_arm({"majority": 0.2}, "majority") is None


def test_which_arms_have_no_curve_and_why() -> None:
    def found(names: list[str], chosen: str | None, why: str | None) -> dict[str, str]:
        missing = missing_curves(names, chosen, why)
        assert all(
            one["said"] == f"No learning curve of {' and '.join(one['arms'])}: {one['why']}."
            for one in missing
        )
        return {name: one["why"] for one in missing for name in one["arms"]}

    names = ["majority", "few-shot", "lora", "staged", "multi-task", "oracle"]
    # one that has a curve says nothing of those that learn nothing from rows
    there = found(names, "lora", None)
    assert there.keys() == {"staged", "multi-task"}
    assert "stages" in there["staged"] and "mixture" in there["multi-task"]
    # where there is none, each arm that could be deployed is told of
    none = found([*names, "full"], "lora", "no time")
    assert none.keys() == {"few-shot", "lora", "full", "staged", "multi-task"}
    assert none["lora"] == "no time"
    assert "one arm, which is lora" in none["full"]
    assert "nothing is trained" in none["few-shot"]
    assert missing_curves([*names, "full"], "lora", "no time")[0]["arms"] == ["lora"]
    assert found(["staged", "zero-shot"], None, None).keys() == {"staged", "zero-shot"}
    assert found(["majority"], None, None) == {}


# ---- whole runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("seeded")
    task = write_task(folder, tiny_model, arms=["majority", "lora"], seeds=3)
    luthier.run(task, out=folder / "out")
    return folder


def test_the_score_of_several_seeds_is_their_mean(seeded: Path) -> None:
    run = Run.open(seeded / "out")
    (arm,) = [one for one in run.verdict["arms"] if one["name"] == "lora"]
    fits = [run.arm_folder("lora"), *finished(run, "lora", "seed")]
    scores = [
        np.mean([row["score"] for row in read_jsonl(fit / "predictions.jsonl")]) for fit in fits
    ]
    assert len(fits) == 3
    assert arm["seeds"]["seeds"] == [0, 1, 2]
    assert arm["seeds"]["scores"] == pytest.approx(scores)
    assert arm["score"] == pytest.approx(np.mean(scores))
    assert "training seeds" in run.verdict["statistics"]["method"]


def test_fits_with_other_seeds_are_other_fits_and_leave_no_model(seeded: Path) -> None:
    run = Run.open(seeded / "out")
    losses = [json.dumps(run.arm_record("lora")["curve"])]  # type: ignore[index]
    for folder in finished(run, "lora", "seed"):
        assert {path.name for path in folder.iterdir() if path.is_dir()} == set()
        assert (folder / "predictions.jsonl").is_file()
        losses.append(json.dumps(json.loads((folder / "train.json").read_text())["curve"]))
    assert len(set(losses)) == 3
    assert not list((seeded / "out" / "refits").glob("majority*"))


def test_a_short_budget_does_not_give_other_seeds_other_epochs(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, object, float]] = []
    train = Lora.train

    def watched(self: TunedArm, place: Workplace) -> dict[str, Any]:
        given.append((place.task.seed, place.task.training.epochs, place.minutes))
        stage = train(self, place)
        # as if time had allowed one epoch only
        return {**stage, "config": {**stage["config"], "epochs": 1.0}}

    monkeypatch.setattr(Lora, "train", watched)
    task = write_task(tmp_path, tiny_model, arms=["lora"], seeds=2, training={"batch_size": 16})
    luthier.run(task, out=tmp_path / "out", minutes=5)
    (first, wanted, _), (second, epochs, minutes) = given
    assert (first, wanted) == (0, None)
    assert (second, epochs, minutes) == (1, 1.0, 5)


@pytest.mark.parametrize("cut", [False, True])
def test_pilots_are_cut_as_the_arm_was(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    """Else the last point of the curve would be that of an arm that was trained for less."""
    given: list[tuple[int, object]] = []
    train = Lora.train

    def watched(self: TunedArm, place: Workplace) -> dict[str, Any]:
        given.append((len(place.train), place.task.training.epochs))
        stage = train(self, place)
        short = {"full_epochs": 3.0, "config": {**stage["config"], "epochs": 1.0}}
        return {**stage, **(short if cut else {})}

    monkeypatch.setattr(Lora, "train", watched)
    task = write_task(tmp_path, tiny_model, arms=["lora"], training={"batch_size": 16})
    luthier.run(task, out=tmp_path / "out", minutes=5, learning_curve=True)
    (whole, *parts) = given
    assert whole[1] is None
    assert len(parts) == 9
    assert all(rows < whole[0] for rows, _ in parts)
    assert {epochs for _, epochs in parts} == {1.0 if cut else None}


def test_an_encoder_with_values_of_its_own_keeps_the_settings_that_were_found(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the task's training section is not the encoder's."""
    pytest.importorskip("optuna")
    monkeypatch.setattr(classifier, "ENCODER", str(write_tiny_encoder(tmp_path / "e", tiny_model)))
    # the last that is tried wins, which is not the default
    monkeypatch.setattr(ClassifierArm, "_score", lambda self, place, trial, rows: trial.number / 9)
    task = write_task(tmp_path, tiny_model, arms=["classifier"], seeds=2, training={"tune": 2})
    luthier.run(task, out=tmp_path / "out", minutes=5)
    run = Run.open(tmp_path / "out")
    record = run.arm_record("classifier")
    assert record
    first = record["settings"]["training"]
    (again,) = finished(run, "classifier", "seed")
    second = json.loads((again / "train.json").read_text())["config"]
    # a trial's loss is measured on the way, which a refit has no use for
    assert second | {"evaluate_every": 1} == first | {"seed": 1, "evaluate_every": 1}
    (choice,) = record["choices"]
    assert choice["chosen"] == choice["options"][1]["value"] != choice["options"][0]["value"]


def test_the_report_says_what_each_seed_scored(seeded: Path) -> None:
    page = build_report(seeded / "out").read_text(encoding="utf-8")
    assert "3 seeds" in page


def test_more_seeds_are_added_to_a_finished_run(seeded: Path) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in (seeded / "out" / "refits").glob("*/*.jsonl")
    }
    run = luthier.run(seeded / "task.yaml", out=seeded / "out", seeds=4, resume=True)
    (arm,) = [one for one in run.verdict["arms"] if one["name"] == "lora"]
    assert arm["seeds"]["seeds"] == [0, 1, 2, 3]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder of linear-probe replaced by counts of letters, which learn slowly."""

    class Encoder:
        class model:  # noqa: N801 - as the encoder calls it
            @staticmethod
            def parameters() -> list[Any]:
                return []

        def encode(self, texts: Sequence[str], progress: Any = None) -> Any:
            rows = [[text.count(letter) / 3 for letter in "abcdefgrlnu"] for text in texts]
            return np.array(rows, dtype=np.float32), [len(text) for text in texts], 0

    monkeypatch.setattr("luthier.models.pool.ModelPool.encoder", lambda self, name: Encoder())


def test_a_run_ends_with_a_learning_curve(
    tmp_path: Path, tiny_model: Path, letters: None, capsys: pytest.CaptureFixture[str]
) -> None:
    task = write_task(
        tmp_path,
        tiny_model,
        rows=150,
        arms=["majority", "linear-probe"],
        success={"at_least": 0.999},
    )
    code, shown, _ = command(capsys, "run", task, "--out", tmp_path / "out")
    assert code == 0
    run = Run.open(tmp_path / "out")
    curve = run.verdict["learning_curve"]
    rows = run.manifest["splits"]["train"]["rows"]
    assert curve["arm"] == "linear-probe"
    assert [point["examples"] for point in curve["points"]] == [
        *(max(2, round(share * rows)) for share, _ in SHARES),
        rows,
    ]
    assert [len(point["scores"]) for point in curve["points"]] == [4, 3, 2, 1]
    (arm,) = [one for one in run.verdict["arms"] if one["name"] == "linear-probe"]
    assert curve["points"][-1]["scores"] == [pytest.approx(arm["score"])]
    assert "no_learning_curve" not in run.verdict
    assert curve["said"].split(":")[0] in shown
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Would more data help?" in page

    # nothing is fitted twice, and the curve can be left out of another run
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/refits").glob("*/*")}
    luthier.run(task, out=tmp_path / "out", resume=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    other = luthier.run(task, out=tmp_path / "other", learning_curve=False)
    assert "learning_curve" not in other.verdict
    assert told(other, "linear-probe") == "`learning_curve` is false"
    assert not (tmp_path / "other" / "refits").exists()


def test_few_rows_have_no_curve_unless_it_is_asked_for(
    tmp_path: Path, tiny_model: Path, letters: None
) -> None:
    task = write_task(tmp_path, tiny_model, arms=["majority", "linear-probe"])
    auto = luthier.run(task, out=tmp_path / "auto")
    assert "learning_curve" not in auto.verdict
    assert "training rows are too small" in told(auto, "linear-probe")
    asked = luthier.run(task, out=tmp_path / "asked", learning_curve=True)
    assert asked.verdict["learning_curve"]["arm"] == "linear-probe"


def told(run: Run, arm: str) -> str:
    """Why verdict.json and the report say that there is no learning curve of an arm."""
    (found,) = [one for one in run.verdict["no_learning_curve"] if arm in one["arms"]]
    page = Page((run.folder / "report.html").read_text(encoding="utf-8"))
    assert found["said"] in page.text()
    assert ("it has no learning curve" in page.text()) is ("learning_curve" not in run.verdict)
    assert any(link["href"] == "#learning" for link in page.all("a"))
    return str(found["why"])


def test_a_run_without_room_for_pilots_says_so(
    tmp_path: Path,
    tiny_model: Path,
    letters: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("luthier.comparison.time_allowed", lambda record, left: 0.0)
    task = write_task(
        tmp_path, tiny_model, rows=150, arms=["majority", "zero-shot", "linear-probe"]
    )
    code, shown, _ = command(capsys, "run", task, "--out", tmp_path / "out")
    assert code == 0
    run = Run.open(tmp_path / "out")
    why = told(run, "linear-probe")
    assert "minutes and none is left" in why
    assert f"No learning curve of linear-probe: {why}." in shown
    assert "nothing is trained on the rows" in told(run, "zero-shot")
    assert not (tmp_path / "out" / "refits").exists()


def test_pilots_that_take_longer_than_foreseen_end_with_their_time(
    tmp_path: Path, tiny_model: Path, letters: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=100)  # every fit takes 100 seconds by it
    monkeypatch.setattr("luthier.pilots.time", SimpleNamespace(monotonic=lambda: next(clock)))
    task = write_task(tmp_path, tiny_model, rows=150, arms=["majority", "linear-probe"])
    for seconds, fits in ((150.0, 1), (450.0, 4)):
        monkeypatch.setattr("luthier.comparison.time_allowed", lambda record, left, s=seconds: s)
        run = luthier.run(task, out=tmp_path / str(fits))
        assert len(list((run.folder / "refits").glob("*/arm.json"))) == fits
        if fits == 1:
            why = told(run, "linear-probe")
            assert "take longer than foreseen (1.7 minutes for 1 of 9, of 2.5)" in why
        else:
            # half of the rows would have taken longer than what was left by then
            points = run.verdict["learning_curve"]["points"]
            assert [len(point["scores"]) for point in points] == [3, 1, 1]


def test_a_run_whose_pilots_all_fail_says_so(
    tmp_path: Path, tiny_model: Path, letters: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = LinearProbe.fit

    def failing(self: LinearProbe, place: Any) -> Any:
        if len(place.train) < 70:
            raise RuntimeError("too few for me")
        return fit(self, place)

    monkeypatch.setattr(LinearProbe, "fit", failing)
    task = write_task(tmp_path, tiny_model, rows=150, arms=["majority", "linear-probe"])
    run = luthier.run(task, out=tmp_path / "out")
    assert "of its 9 pilot fits failed (RuntimeError: too few for me)" in told(run, "linear-probe")


def test_a_pilot_that_fails_leaves_the_run_whole(
    tmp_path: Path, tiny_model: Path, letters: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = LinearProbe.fit

    def failing(self: LinearProbe, place: Any) -> Any:
        if len(place.train) < 20:
            raise RuntimeError("too few for me")
        return fit(self, place)

    monkeypatch.setattr(LinearProbe, "fit", failing)
    task = write_task(tmp_path, tiny_model, rows=150, arms=["majority", "linear-probe"])
    run = luthier.run(task, out=tmp_path / "out")
    sizes = [point["examples"] for point in run.verdict["learning_curve"]["points"]]
    assert min(sizes) >= 20 and len(sizes) == 3
    records = [json.loads(p.read_text()) for p in (run.folder / "refits").glob("*/arm.json")]
    assert {record["failed"] for record in records} == {None, "RuntimeError: too few for me"}


@pytest.mark.parametrize(
    ("key", "value"), [("seeds", 0), ("seeds", 21), ("seeds", True), ("learning_curve", "maybe")]
)
def test_what_cannot_be_asked_for(
    tmp_path: Path, tiny_model: Path, key: str, value: object
) -> None:
    task = write_task(tmp_path, tiny_model, **{key: value})
    with pytest.raises(luthier.errors.InputError, match=key):
        luthier.run(task, out=tmp_path / "out")
