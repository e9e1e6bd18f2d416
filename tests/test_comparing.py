"""Whole runs on a tiny model: the folder, the verdict, and what is served from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_samples import (
    ARMS,
    few_probes,
    files_below,
    read_jsonl,
    results,
    with_context,
    write_task,
)

import luthier
from luthier.aftermath import Aftermath
from luthier.arms.base import ARMS as EVERY_ARM
from luthier.arms.base import Fit, Workplace
from luthier.arms.few_shot import FewShot
from luthier.arms.zero_shot import ZeroShot
from luthier.data.examples import Example
from luthier.errors import InputError, ModelError, RunError
from luthier.runs import Run, disk_is_full
from luthier.serving.offer import offer
from luthier.starters import write_starter
from luthier.task import Task

OTHER_KINDS = [
    "ner",
    "qa",
    "generation",
    "translation",
    "summarization",
    "extraction",
    "chat",
]
VERDICT_KEYS = {
    "task",
    "kind",
    "metric",
    "n_test",
    "seed",
    "decision",
    "recommendation",
    "reasons",
    "minimum_detectable_effect",
    "arms",
}
ARM_KEYS = {
    "name",
    "score",
    "interval",
    "invalid_rate",
    "versus_best",
    "train_seconds",
    "train_tokens_per_second",
    "trained_parameters",
    "total_parameters",
    "seconds_per_answer",
    "prompt_tokens_per_answer",
    "peak_memory_bytes",
    "forgetting",
    "metrics",
    "failed",
}
PREDICTION_KEYS = [
    "id",
    "input",
    "reference",
    "prediction",
    "score",
    "seconds",
    "prompt_tokens",
    "completion_tokens",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A task folder with its model beside it, named by a relative path, and its finished run."""
    folder = tmp_path_factory.mktemp("colours")
    shutil.copytree(tiny_model, folder / "tiny")
    write_task(folder, Path("tiny"))
    luthier.run(folder / "task.yaml", out=folder / "out", command="luthier run task.yaml")
    return folder


@pytest.fixture(scope="module")
def out(home: Path) -> Path:
    return home / "out"


def locked_test(out: Path) -> list[Example]:
    return [Example.from_row(row) for row in read_jsonl(out / "data" / "test.jsonl")]


# ---- the folder --------------------------------------------------------------------------------


def test_the_files_of_a_run_folder(out: Path) -> None:
    held = set(files_below(out)) - {".lock", "probes.json"}
    expected = {
        *("task.yaml", "manifest.json", "events.jsonl", "lint.json", "verdict.json", "report.html"),
        *(f"data/{name}.jsonl" for name in ("train", "validation", "test")),
        *(f"arms/{arm}/{file}" for arm in ARMS for file in ("arm.json", "predictions.jsonl")),
    }
    assert expected <= held
    assert {path for path in held - expected if not path.startswith("arms/lora/")} == set()
    assert "arms/lora/model/adapter_model.safetensors" in held
    assert not [path for path in held if path.endswith(".part")]


def test_verdict_has_the_designed_keys(out: Path) -> None:
    verdict = json.loads((out / "verdict.json").read_text())
    assert verdict.keys() >= VERDICT_KEYS
    assert verdict["task"] == "colours"
    assert verdict["kind"] == "classification"
    assert verdict["metric"] == "accuracy"
    assert verdict["seed"] == 0
    assert verdict["n_test"] == len(read_jsonl(out / "data" / "test.jsonl"))
    assert verdict["decision"] in ("deploy", "undecided", "none")
    assert [arm["name"] for arm in verdict["arms"]] == ARMS
    for arm in verdict["arms"]:
        assert arm.keys() >= ARM_KEYS
        assert arm["failed"] is None
        low, high = arm["interval"]
        assert low <= arm["score"] <= high
    best = max(verdict["arms"], key=lambda arm: arm["score"])
    assert best["versus_best"] is None
    others = [arm["versus_best"] for arm in verdict["arms"] if arm["versus_best"]]
    assert len(others) == 3
    for versus in others:
        assert versus.keys() == {"arm", "difference", "interval", "p", "p_adjusted"}
        assert versus["arm"] == best["name"]
        assert versus["p"] <= versus["p_adjusted"] + 1e-9
    lora = verdict["arms"][-1]
    assert lora["forgetting"].keys() == {"drop", "interval", "probes", "bits_per_byte"}
    assert lora["memorisation"] is None  # not asked for
    assert lora["trained_parameters"] == 16384  # rank 16 on the seven linear layers of two blocks
    assert lora["train_tokens_per_second"] > 0
    assert [arm["forgetting"] for arm in verdict["arms"][:-1]] == [None] * 3


def test_predictions_have_the_designed_keys_and_add_up_to_the_score(out: Path) -> None:
    test = read_jsonl(out / "data" / "test.jsonl")
    verdict = json.loads((out / "verdict.json").read_text())
    for arm in verdict["arms"]:
        rows = read_jsonl(out / "arms" / arm["name"] / "predictions.jsonl")
        assert [row["id"] for row in rows] == [row["id"] for row in test]
        assert [row["reference"] for row in rows] == [row["output"] for row in test]
        assert [row["input"] for row in rows] == [row["input"] for row in test]
        for row in rows:
            assert list(row)[: len(PREDICTION_KEYS)] == PREDICTION_KEYS
            assert row["score"] == float(row["prediction"] == row["reference"])
        assert sum(row["score"] for row in rows) / len(rows) == pytest.approx(arm["score"])
        mean = sum(row["prompt_tokens"] for row in rows) / len(rows)
        assert mean == pytest.approx(arm["prompt_tokens_per_answer"])


def test_the_manifest_and_the_training_curve(home: Path, out: Path) -> None:
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["task"] == "colours"
    assert manifest["task_file"] == str(home / "task.yaml")
    assert manifest["command"] == "luthier run task.yaml"
    assert manifest["labels"] == ["blue", "green", "red"]
    assert manifest["luthier"] == luthier.__version__
    assert manifest["versions"].keys() >= {"python", "torch", "transformers", "peft"}
    assert manifest["machine"].keys() == {"cores", "memory_bytes", "gpus", "platform"}
    assert [arm["name"] for arm in manifest["arms"]] == ARMS
    assert manifest["left_out"] == []
    assert sum(split["rows"] for split in manifest["splits"].values()) == 40
    for name, split in manifest["splits"].items():
        assert split["rows"] == len(read_jsonl(out / "data" / f"{name}.jsonl"))
        assert len(split["hash"]) == 64
    record = json.loads((out / "arms" / "lora" / "arm.json").read_text())
    steps = [step for step, _ in record["curve"]]
    rows = manifest["splits"]["train"]["rows"]
    assert steps == list(range(1, -(-rows // 8) + 1))
    assert all(loss > 0 for _, loss in record["curve"])
    events = read_jsonl(out / "events.jsonl")
    assert [event["arm"] for event in events if event["event"] == "arm"] == ARMS
    assert len([event for event in events if event["event"] == "step"]) == len(steps)
    assert events[-1]["event"] == "verdict"


def test_the_report_is_one_file_that_opens_with_the_answer(out: Path) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    headline = json.loads((out / "verdict.json").read_text())["headline"]
    assert headline.split(":")[0] in page
    for arm in ARMS:
        assert arm in page
    assert 'src="http' not in page
    assert '<link rel="stylesheet"' not in page


def test_the_same_seed_gives_the_same_verdict(home: Path, out: Path, tmp_path: Path) -> None:
    luthier.run(home / "task.yaml", out=tmp_path / "again")
    assert results(tmp_path / "again") == results(out)


def test_another_seed_is_another_run(home: Path, out: Path, tmp_path: Path) -> None:
    luthier.run(home / "task.yaml", out=tmp_path / "other", seed=5, arms=["majority"])
    hashes = {Run.open(f).manifest["splits"]["test"]["hash"] for f in (out, tmp_path / "other")}
    assert len(hashes) == 2


# ---- the folder is all that is needed ----------------------------------------------------------


def test_the_runs_own_task_runs_again_on_the_same_data(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    again = luthier.run(out / "task.yaml", out="again")
    assert again.manifest["splits"] == Run.open(out).manifest["splits"]
    assert results(again.folder) == results(out)


def test_the_runs_own_task_continues_the_run(out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / "verdict.json").unlink()
    run = Run.open(copy)
    with pytest.raises(RunError, match="has no verdict yet") as caught:
        _ = run.verdict
    assert f"luthier run {copy / 'task.yaml'} --out {copy} --resume" in caught.value.fix
    rows = {name: text for name, text in files_below(copy).items() if name.startswith("data/")}
    luthier.run(copy / "task.yaml", out=copy, resume=True)
    assert results(copy) == results(out)
    assert rows.items() <= files_below(copy).items()  # the names of the rows are kept, too
    assert run.manifest["command"] == "luthier run task.yaml"


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_opened_from_the_folder_answers_as_it_was_measured(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the model was named by a path relative to the task
    rows = read_jsonl(out / "arms" / name / "predictions.jsonl")
    arm = Run.open(out).arm(name)
    together = arm.answer([row["input"] for row in rows])
    assert [answer.text for answer in together] == [row["prediction"] for row in rows]
    alone = [arm.answer([row["input"]])[0].text for row in rows]
    assert alone == [row["prediction"] for row in rows]


def test_serving_offers_every_arm_by_name(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    servables, default = offer(str(out))
    assert sorted(servables) == sorted(ARMS)
    assert default == Run.open(out).verdict["recommendation"]
    for name, load in servables.items():
        rows = read_jsonl(out / "arms" / name / "predictions.jsonl")
        asked = [example.messages for example in locked_test(out)]
        servable = load()
        assert servable.name == name
        assert [a.text for a in servable.answer(asked)] == [row["prediction"] for row in rows]


# ---- every kind of task ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny model with room for the starters' texts, byte by byte."""
    return with_context(tiny_model, tmp_path_factory.mktemp("roomy") / "tiny", 8192)


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_whole_run_of_every_kind(kind: str, roomy: Path, tmp_path: Path) -> None:
    write_starter(kind, tmp_path / "task")
    path = tmp_path / "task" / "task.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values |= {"model": str(roomy), "arms": ARMS, "training": {"epochs": 1, "batch_size": 8}}
    values["data"]["limit"] = {"train": 12, "validation": 4, "test": 6}
    values["generation"] = {"max_new_tokens": 12}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with few_probes():
        run = luthier.run(path, out=tmp_path / "out")
    verdict = run.verdict
    assert verdict["kind"] == kind
    assert verdict["metric"] == Task.load(path).scored_by
    assert [arm["name"] for arm in verdict["arms"]] == ARMS
    assert [arm["failed"] for arm in verdict["arms"]] == [None] * 4
    assert (run.folder / "report.html").is_file()
    for name in ARMS:
        rows = read_jsonl(run.arm_folder(name) / "predictions.jsonl")
        assert len(rows) == verdict["n_test"]
        asked = [example.messages for example in locked_test(run.folder)]
        answers = run.answerer(name).answer(asked)
        assert [answer.text for answer in answers] == [row["prediction"] for row in rows]
        assert all(row["completion_tokens"] <= 12 for row in rows)


# ---- the locked test ---------------------------------------------------------------------------


def test_fitting_never_sees_the_test(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Workplace] = []

    def spy(self: ZeroShot, place: Workplace) -> Fit:
        seen.append(place)
        raise InputError("seen enough")

    monkeypatch.setattr(ZeroShot, "fit", spy)
    path = write_task(tmp_path, tiny_model, arms=["majority", "zero-shot"])
    run = luthier.run(path, out=tmp_path / "out")
    (place,) = seen
    assert "test" not in vars(place)
    tested = {example.input for example in locked_test(run.folder)}
    assert tested
    assert not tested & {e.input for e in (*place.train, *place.validation)}
    assert len(tested) + len(place.train) + len(place.validation) == 40


def test_a_test_file_is_read_once_it_is_asked(tiny_model: Path, tmp_path: Path) -> None:
    """Other test rows change no choice: everything but the test's own results stays the same."""
    records = []
    for side in ("a", "b"):
        path = write_task(tmp_path / side, tiny_model, arms=["few-shot"])
        rows = (tmp_path / side / "rows.csv").read_text().splitlines()
        (tmp_path / side / "rows.csv").write_text("\n".join(rows[:31]) + "\n")
        part = rows[31:36] if side == "a" else rows[36:]
        (tmp_path / side / "test.csv").write_text("\n".join([rows[0], *part]) + "\n")
        values = yaml.safe_load(path.read_text())
        values["data"]["test"] = "test.csv"
        path.write_text(yaml.safe_dump(values))
        run = luthier.run(path, out=tmp_path / side / "out")
        record = run.arm_record("few-shot")
        assert record is not None
        records.append((record["settings"], record["choices"]))
    assert records[0] == records[1]


# ---- arms that fail, and arms there is no time for ---------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputError("This data is odd.", fix="Mend it."), "This data is odd. Mend it."),
        (ModelError("No such model."), "No such model."),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_failed_arm_is_reported_and_the_run_goes_on(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
) -> None:
    def fail(self: ZeroShot, place: Workplace) -> Fit:
        raise error

    path = write_task(tmp_path, tiny_model, arms=["majority", "zero-shot", "few-shot"])
    with monkeypatch.context() as patched:
        patched.setattr(ZeroShot, "fit", fail)
        run = luthier.run(path, out=tmp_path / "out")
    arms = {arm["name"]: arm for arm in run.verdict["arms"]}
    assert arms["zero-shot"]["failed"] == reason
    assert arms["zero-shot"]["score"] is None
    assert arms["majority"]["failed"] is None
    assert arms["few-shot"]["failed"] is None
    assert any("zero-shot failed" in why for why in run.verdict["reasons"])
    assert "zero-shot" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert run.finished_arms() == ["majority", "few-shot"]
    with pytest.raises(RunError, match="failed"):
        run.answerer("zero-shot")
    failures = [e for e in read_jsonl(run.folder / "events.jsonl") if e["event"] == "failed"]
    assert "Traceback" in failures[0]["traceback"]
    # an arm that failed is tried again; the others are not
    kept = run.arm_folder("few-shot") / "arm.json"
    before = kept.stat().st_mtime_ns
    again = luthier.run(path, out=tmp_path / "out", resume=True)
    assert kept.stat().st_mtime_ns == before
    assert [arm["failed"] for arm in again.verdict["arms"]] == [None] * 3


def test_all_arms_failing_still_ends_in_a_verdict(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, place: Workplace) -> Fit:
        raise InputError("No.")

    monkeypatch.setattr(ZeroShot, "fit", fail)
    run = luthier.run(write_task(tmp_path, tiny_model, arms=["zero-shot"]), out=tmp_path / "out")
    assert run.verdict["decision"] == "none"
    assert run.verdict["recommendation"] is None
    with pytest.raises(RunError, match="no arm finished"):
        offer(str(run.folder))


def test_where_nothing_is_recommended_the_best_real_arm_answers(
    tiny_model: Path, tmp_path: Path
) -> None:
    path = write_task(
        tmp_path, tiny_model, arms=["majority", "zero-shot"], success={"at_least": 1.0}
    )
    run = luthier.run(path, out=tmp_path / "out")
    assert run.verdict["decision"] == "none"
    assert offer(str(run.folder))[1] == "zero-shot"


def translation(roomy: Path, tmp_path: Path) -> Path:
    """A small task of writing, whose arms are majority, zero-shot, few-shot and lora."""
    write_starter("translation", tmp_path / "task")
    path = tmp_path / "task" / "task.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values |= {"model": str(roomy), "arms": "auto", "generation": {"max_new_tokens": 4}}
    values["data"]["limit"] = {"train": 12, "validation": 4, "test": 6}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("longest", ["training", "looking back"])
def test_a_budget_too_small_leaves_lora_out_and_says_so(
    roomy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: str
) -> None:
    training, after = (600.0, 0.0) if longest == "training" else (0.0, 600.0)
    monkeypatch.setattr(EVERY_ARM.get("lora"), "least_seconds", lambda self, place, tests: training)
    monkeypatch.setattr(Aftermath, "seconds", lambda self: after)
    path = translation(roomy, tmp_path)
    run = luthier.run(path, out=tmp_path / "out", minutes=2)
    assert [arm["name"] for arm in run.verdict["arms"]] == ["majority", "zero-shot", "few-shot"]
    (said,) = [text for text in run.verdict["warnings"] if "lora" in text]
    assert said.startswith("lora was left out: it needs about 10.0 minutes and ")
    assert "of the budget's 2 are left" in said
    left = {arm["name"]: arm["why"] for arm in run.manifest["left_out"]}
    assert "budget" in left["lora"]
    assert "full" in left
    # with more time it is taken up again
    monkeypatch.undo()
    more = luthier.run(path, out=tmp_path / "out", minutes=30, resume=True)
    assert "lora" in [arm["name"] for arm in more.verdict["arms"]]
    assert not [text for text in more.verdict["warnings"] if "lora" in text]


@pytest.mark.parametrize(("needed", "kept"), [(600.0, 0.0), (60.0, 1.0)])
def test_no_time_is_kept_for_an_arm_that_has_no_room(
    roomy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: float, kept: float
) -> None:
    given: list[float] = []
    fit = FewShot.fit

    def noting(self: FewShot, place: Any) -> Any:
        given.append(place.minutes)
        return fit(self, place)

    def failing(self: Any, place: Any) -> Any:
        raise ModelError("it is not trained here")

    lora = EVERY_ARM.get("lora")
    monkeypatch.setattr(FewShot, "fit", noting)
    monkeypatch.setattr(lora, "fit", failing)
    monkeypatch.setattr(lora, "least_seconds", lambda self, place, tests: needed)
    monkeypatch.setattr(Aftermath, "seconds", lambda self: 0.0)
    luthier.run(translation(roomy, tmp_path), out=tmp_path / "out", minutes=5)
    assert given == pytest.approx([5 - kept], abs=0.9)


def test_an_arm_that_was_named_is_run_whatever_the_budget(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FewShot, "least_seconds", lambda self, place, tests: 1e6)
    path = write_task(tmp_path, tiny_model, arms=["majority", "few-shot"])
    run = luthier.run(path, out=tmp_path / "out", minutes=0.1)
    assert [arm["name"] for arm in run.verdict["arms"]] == ["majority", "few-shot"]


# ---- who may write in a folder -----------------------------------------------------------------


def test_the_test_data_changed_on_disk(home: Path, out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    path = copy / "data" / "test.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"output": "red"', '"output": "blue"', 1), encoding="utf-8")
    with pytest.raises(RunError, match=r"test\.jsonl has changed since the run began"):
        luthier.run(home / "task.yaml", out=copy, resume=True)


def test_the_source_rows_changed(tiny_model: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path, tiny_model, arms=["majority"])
    luthier.run(path, out=tmp_path / "out")
    rows = (tmp_path / "rows.csv").read_text()
    (tmp_path / "rows.csv").write_text(rows.replace("item 3:", "item three:"))
    before = files_below(tmp_path / "out")
    with pytest.raises(RunError, match="holds another run"):
        luthier.run(path, out=tmp_path / "out", resume=True)
    assert files_below(tmp_path / "out") == before


@pytest.mark.parametrize(
    "changes", [{"seed": 3}, {"instruction": "Other."}, {"name": "other"}, {"training": {}}]
)
def test_other_settings_are_another_run(
    home: Path, out: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    task = Task.load(home / "task.yaml").changed(**changes)
    with pytest.raises(RunError, match="holds another run"):
        luthier.run(task, out=out, resume=True)


def test_other_success_criteria_only_decide_anew(home: Path, out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    task = Task.load(home / "task.yaml").changed(success={"at_least": 1.0})
    run = luthier.run(task, out=copy, resume=True)
    assert run.verdict["decision"] == "none"
    assert Run.open(copy).task.success.at_least == 1.0
    kept = {name: text for name, text in files_below(out).items() if name.startswith("arms/")}
    assert kept.items() <= files_below(copy).items()


def test_a_folder_with_something_else_in_it(tiny_model: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path, tiny_model, arms=["majority"])
    with pytest.raises(RunError, match="is not empty and holds no run"):
        luthier.run(path, out=tmp_path)
    assert sorted(files_below(tmp_path)) == ["rows.csv", "task.yaml"]


def test_default_folders_count_up_and_resume_finds_its_own(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_task(tmp_path, tiny_model, arms=["majority"])
    with pytest.raises(RunError, match="There is no run of 'colours'"):
        luthier.run(path, resume=True)
    assert luthier.run(path).folder == tmp_path / "runs" / "colours"
    assert luthier.run(path, seed=1).folder == tmp_path / "runs" / "colours-2"
    assert luthier.run(path, resume=True).folder == tmp_path / "runs" / "colours"
    assert luthier.run(path, seed=1, resume=True).folder == tmp_path / "runs" / "colours-2"


@pytest.mark.parametrize("missing", ["nowhere", "."])
def test_opening_what_is_no_run(tmp_path: Path, missing: str) -> None:
    with pytest.raises(RunError, match=r"does not exist|holds no run"):
        Run.open(tmp_path / missing)


def test_an_arm_that_is_not_there(out: Path) -> None:
    with pytest.raises(RunError, match="'loar' is not an arm") as caught:
        Run.open(out).answerer("loar")
    assert "'lora'" in caught.value.fix


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(27, "File too large"), True),
        (OSError(2, "No such file"), False),
        (Exception("I/O error: File too large (os error 27)"), True),
        (Exception("I/O error: No such file (os error 2)"), False),
    ],
)
def test_a_full_disk_is_told_from_other_errors(error: Exception, full: bool) -> None:
    assert disk_is_full(error) is full
    outer = RuntimeError("outer")
    outer.__cause__ = error
    assert disk_is_full(outer) is full


def test_a_handful_of_groups_is_not_resampled() -> None:
    from luthier.data.examples import Example, Message
    from luthier.evaluation.clusters import clusters_of

    def rows(groups: list[str | None]) -> list[Example]:
        return [
            Example(str(i), (Message("user", "q"),), "a", group=group)
            for i, group in enumerate(groups)
        ]

    clusters, said = clusters_of(rows(["one"] * 30))
    assert clusters is None
    assert "only 1 group." in said[0]
    clusters, said = clusters_of(rows([f"g{i % 6}" for i in range(30)]))
    assert clusters is not None
    assert len(set(clusters)) == 6
    assert not said
    # rows without a group stand alone
    clusters, said = clusters_of(rows([None] * 30))
    assert clusters is not None
    assert len(set(clusters)) == 30
