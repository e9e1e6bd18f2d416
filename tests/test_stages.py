"""Sequential tuning: the chain of stages, the matrix, resuming, and the arms that come of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_samples import few_probes, files_below, luthier, write_task

import luthier as lu
from luthier.errors import InputError, RunError
from luthier.evaluation.transfer import sums
from luthier.models.tuned import lineage
from luthier.staged.plan import absolute, chain, read
from luthier.task import Task

TRAINING = {
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "checkpoint_every": 2,
    "precision": "float32",
}


def family(folder: Path, model: Path, stages: Any = None, **changes: Any) -> Path:
    """general -> medical -> cardiology; returns the last one's file."""
    write_task(
        folder / "general",
        model,
        name="general",
        rows=44,
        instruction="Say the colour.",
        training=TRAINING,
        seed=1,
    )
    write_task(
        folder / "medical",
        model,
        name="medical",
        rows=48,
        instruction="Which colour?",
        training=TRAINING,
        seed=2,
    )
    return write_task(
        folder / "cardiology",
        model,
        name="cardiology",
        rows=60,
        training=TRAINING,
        seed=3,
        stages=stages
        or [
            {"name": "general", "task": "../general"},
            {"name": "medical", "task": "../medical/task.yaml", "training": {"rank": 4}},
        ],
        **changes,
    )


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with few_probes():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The three tasks, and the chain trained without interruption in `out`."""
    folder = tmp_path_factory.mktemp("chain")
    task = family(folder, tiny_model)
    lu.train(task, out=folder / "out")
    return folder


# ---- the plan ----------------------------------------------------------------------------------


def test_the_task_itself_is_the_last_stage(home: Path) -> None:
    links = chain(Task.load(home / "cardiology"))
    assert [(link.name, link.method, link.own) for link in links] == [
        ("general", "lora", False),
        ("medical", "lora", False),
        ("cardiology", "lora", True),
    ]
    medical = links[1].task
    # what the stage says goes over what its task says, and the rest stays
    assert (medical.training.rank, medical.training.learning_rate) == (4, 1e-2)
    assert medical.instruction == "Which colour?"
    assert {link.method for link in chain(Task.load(home / "cardiology"), "dora")} == {"dora"}
    with pytest.raises(InputError, match=r"`stages.1` \(medical\): `training.rank` is read by"):
        chain(Task.load(home / "cardiology"), "full")


def test_stages_written_into_the_file(tmp_path: Path, tiny_model: Path) -> None:
    inline = {
        "name": "behaviour",
        "kind": "generation",
        "instruction": "Answer in one word.",
        "data": {"train": "rows.csv", "input": "{{ k }}", "output": "{{ q }}"},
        "method": "full",
    }
    path = family(
        tmp_path, tiny_model, stages=[inline, {"name": "target", "training": {"epochs": 5}}]
    )
    first, last = chain(Task.load(path))
    assert (first.task.kind, first.task.instruction, first.method) == (
        "generation",
        "Answer in one word.",
        "full",
    )
    assert first.task.scored_by == "rougeL"
    assert (last.name, last.own, last.task.name) == ("target", True, "cardiology")
    assert last.task.training.epochs == 5
    assert last.task.training.learning_rate == 1e-2
    assert len(read([first, last])[0].prepared.splits.test) > 0


def test_the_stages_of_a_stage_come_before_it(tmp_path: Path, tiny_model: Path) -> None:
    path = family(tmp_path, tiny_model, stages=[{"name": "before", "task": "../medical"}])
    medical = Task.load(tmp_path / "medical")
    write_task(
        tmp_path / "medical",
        tiny_model,
        name=medical.name,
        training=TRAINING,
        stages=[{"name": "words", "task": "../general"}],
    )
    links = chain(Task.load(path))
    assert [link.name for link in links] == ["before-words", "before", "cardiology"]
    assert [link.own for link in links] == [False, False, True]


def test_paths_are_made_absolute_for_a_run_folder(home: Path, tmp_path: Path) -> None:
    task = Task.load(home / "cardiology")
    moved = Task.from_dict({**task.to_dict(), **absolute(task)}, path=tmp_path / "task.yaml")
    assert [link.task.path.resolve() for link in chain(moved)][:2] == [
        home / "general" / "task.yaml",
        home / "medical" / "task.yaml",
    ]
    assert chain(moved)[1].task.training.learning_rate == 1e-2


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([{"name": "a", "task": "../nowhere"}], r"`stages.0` \(a\): .*nowhere does not exist"),
        ([{"name": "a", "task": "../cardiology"}], "circle: cardiology -> cardiology"),
        ([{"name": "cardiology", "task": "../general"}], "two stages are called 'cardiology'"),
        ([{"name": "a", "task": "../general", "method": "lorra"}], "Unknown method 'lorra'"),
    ],
)
def test_a_chain_that_cannot_be_made(
    tmp_path: Path, tiny_model: Path, stages: Any, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        chain(Task.load(family(tmp_path, tiny_model, stages=stages)))


def test_a_circle_of_two_tasks(tmp_path: Path, tiny_model: Path) -> None:
    path = family(tmp_path, tiny_model, stages=[{"name": "a", "task": "../general"}])
    write_task(tmp_path / "general", tiny_model, stages=[{"name": "b", "task": "../cardiology"}])
    with pytest.raises(InputError, match="circle: cardiology -> general -> cardiology"):
        chain(Task.load(path))


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([{"name": "a"}, {"name": "a"}], "two `stages` are called a"),
        ([{"name": "base"}], "no stage may be called base"),
        ([{"name": "a/b"}], "`stages.0.name` is 'a/b'; it may hold"),
        ([{"nme": "a"}], "unknown key `stages.0.nme`. Did you mean 'name'"),
        ([{"name": "a", "training": {"epoch": 1}}], "Did you mean 'epochs'"),
        ([{"name": "a", "task": "x", "kind": "qa"}], "not both"),
    ],
)
def test_bad_stages_are_one_line_and_exit_2(
    tmp_path: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    stages: Any,
    expected: str,
) -> None:
    path = family(tmp_path, tiny_model, stages=stages)
    code, out, err = luthier(capsys, "train", path, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert expected in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_stages_and_a_mixture_exclude_each_other(tmp_path: Path, tiny_model: Path) -> None:
    path = family(tmp_path, tiny_model, mixture={"tasks": [{"task": "../general"}]})
    with pytest.raises(InputError, match="`stages` or `mixture`, not both"):
        Task.load(path)


# ---- training and the matrix -------------------------------------------------------------------


def test_the_folder_of_a_chain(home: Path) -> None:
    held = set(files_below(home / "out"))
    names = ("general", "medical", "cardiology")
    for stage in names:
        assert f"stages/{stage}/train.json" in held
        assert f"stages/{stage}/model/adapter_model.safetensors" in held
        assert {f"stages/{stage}/answers/{task}.jsonl" for task in names} <= held
    assert {f"base/answers/{task}.jsonl" for task in names} <= held
    # a chain of three, adapters on adapters
    assert len(lineage(str(home / "out" / "stages" / "cardiology")).adapters) == 3
    assert json.loads((home / "out/stages/medical/train.json").read_text())["config"]["rank"] == 4


def test_the_matrix_is_what_evaluate_says(home: Path) -> None:
    held = json.loads((home / "out" / "matrix.json").read_text())
    assert held["finished"]
    assert held["rows"] == ["base", "general", "medical", "cardiology"]
    assert [column["name"] for column in held["columns"]] == held["rows"][1:]
    # the own test of the last stage, scored by the verb for it, on the folder and on the stage
    for model in (home / "out", home / "out" / "stages" / "cardiology"):
        arm = lu.evaluate(model, home / "cardiology")
        assert arm["score"] == pytest.approx(held["scores"][3][2], abs=1e-6)
        assert arm["interval"] == pytest.approx(held["intervals"][3][2], abs=1e-6)
    base = lu.evaluate(str(Task.load(home / "general").model), home / "general")
    assert base["score"] == pytest.approx(held["scores"][0][0], abs=1e-6)
    chance = [column["chance"] for column in held["columns"]]
    ready = read(chain(Task.load(home / "cardiology")))
    for one, value in zip(ready, chance, strict=True):
        counted = Counter(e.output for e in one.prepared.splits.train)
        most = min(counted, key=lambda label: (-counted[label], label))
        test = [e.output for e in one.prepared.splits.test]
        assert value == pytest.approx(test.count(most) / len(test), abs=1e-6)
    assert "most common training label" in held["columns"][0]["chance_is"]
    import numpy as np

    for name, value in sums(np.array(held["scores"]), chance).items():
        assert held["summary"][name]["value"] == pytest.approx(float(value), abs=1e-4)
    assert [term["task"] for term in held["terms"]] == held["rows"][1:]


def test_no_stage_trains_on_what_another_is_tested_on(home: Path) -> None:
    ready = read(chain(Task.load(home / "cardiology")))
    tests = {e.input for one in ready for e in one.prepared.splits.test}
    for one in ready:
        assert not tests & {e.input for e in one.prepared.splits.train}
        assert one.notes  # they were cut from the same rows
    assert json.loads((home / "out" / "matrix.json").read_text())["notes"]


def test_a_chain_that_was_moved_still_answers(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "out", tmp_path / "copy", symlinks=True)
    held = json.loads((tmp_path / "copy" / "stages/cardiology/model/prompt.json").read_text())
    held["model_folder"] = "/gone"
    (tmp_path / "copy" / "stages/cardiology/model/prompt.json").write_text(json.dumps(held))
    adapters = lineage(str(tmp_path / "copy")).adapters
    assert len(adapters) == 3
    assert adapters[1] == tmp_path / "copy" / "stages" / "medical" / "model"


def test_a_folder_is_not_used_twice(home: Path, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(RunError, match="already holds these stages"):
        lu.train(home / "cardiology", out=home / "out")
    before = files_below(home / "out")
    done = lu.train(home / "cardiology", out=home / "out", resume=True)
    assert done.steps > 0
    assert files_below(home / "out") == before
    changed = Task.load(home / "cardiology").changed(instruction="Other.")
    with pytest.raises(RunError, match="other data or settings"):
        lu.train(changed, out=home / "out", resume=True)
    (tmp_path / "x").write_text("")
    with pytest.raises(RunError, match="is not empty"):
        lu.train(home / "cardiology", out=tmp_path, resume=True)


def test_the_command_prints_the_matrix(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home / "out", tmp_path / "out", symlinks=True)
    words = ("train", home / "cardiology", "--out", tmp_path / "out", "--resume")
    code, out, err = luthier(capsys, *words)
    assert code == 0, err
    for text in ("untuned", "medical", "chance", "BWT = mean_{j<T}", "FWT = mean_{j>1}"):
        assert text in out
    code, out, _ = luthier(capsys, *words, "--json")
    assert json.loads(out)["rows"][0] == "base"


DRIVER = """
import json, os, signal, sys
import luthier.arms.prompted, luthier.arms.tuned, luthier.jobs, luthier.staged.training
import luthier.comparing, luthier.generation.local, luthier.training.stage
import peft, torch
from luthier.progress import Reporter

torch.set_num_threads(1)
task, out, steps = sys.argv[1], sys.argv[2], [int(word) for word in sys.argv[3].split(",")]


class Kill(Reporter):
    def __init__(self, at):
        self.left = at

    def _count(self):
        self.left -= 1
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def event(self, kind, **values):
        self._count()

    def say(self, text):
        self._count()

    def work(self, what, total):
        self._count()
        return super().work(what, total)


codes = []
for at in steps:
    pid = os.fork()
    if pid == 0:
        try:
            luthier.jobs.train(task, out=out, resume=True, reporter=Kill(at))
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_again_and_again_and_resumed(home: Path, tmp_path: Path) -> None:
    # a reporter hears of what is done some forty times; killed at every sort of moment
    moments = [1, 4, 6, 9, 11, 13, 8, 12, 15, 17, 12, 14, 18, 20, 20, 1000]
    driver = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", DRIVER),
            *(str(home / "cardiology"), str(tmp_path / "out"), ",".join(map(str, moments))),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert driver.returncode == 0, driver.stderr
    codes = json.loads(driver.stdout.splitlines()[-1])
    assert codes.count(-9) >= 6, driver.stderr
    assert codes[-1] == 0, driver.stderr
    assert set(codes) == {-9, 0}, driver.stderr
    wanted, found = home / "out", tmp_path / "out"
    for stage in ("general", "medical", "cardiology"):
        events = (found / "stages" / stage / "events.jsonl").read_text().splitlines()
        steps = {json.loads(line)["step"] for line in events if '"step"' in line}
        result = json.loads((found / "stages" / stage / "train.json").read_text())
        assert steps == set(range(1, result["steps"] + 1))
    matrix = json.loads((found / "matrix.json").read_text())
    assert matrix["finished"]
    expected = json.loads((wanted / "matrix.json").read_text())
    assert matrix["rows"] == expected["rows"]
    for stage in ("general", "medical", "cardiology"):
        curves = [
            json.loads((folder / "stages" / stage / "train.json").read_text())["curve"]
            for folder in (wanted, found)
        ]
        # one thread sums in another order than two
        assert [loss for _, loss in curves[0]] == pytest.approx(
            [loss for _, loss in curves[1]], rel=1e-4
        )


def test_a_chain_on_what_was_trained_before(home: Path, tmp_path: Path) -> None:
    """Successive `luthier train --from` is the same as stages, one command at a time."""
    lu.train(home / "general", out=tmp_path / "1")
    lu.train(home / "medical", out=tmp_path / "2", start=str(tmp_path / "1"), method="full")
    last = lu.train(
        home / "cardiology" / "task.yaml", out=tmp_path / "3", start=str(tmp_path / "2")
    )
    assert last.steps > 0
    # the chain of the task itself begins where --from says
    held = json.loads((tmp_path / "3" / "matrix.json").read_text())
    assert held["model"] == str(tmp_path / "2" / "model")


def test_raw_text_may_be_a_stage(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "text").mkdir()
    for number in range(12):
        (tmp_path / "text" / f"{number}.txt").write_text(f"A red cup and box {number}. " * 8)
    text = {"name": "reading", "data": {"train": "../text", "text": "{{ text }}"}, "method": "full"}
    path = family(tmp_path, tiny_model, stages=[text, {"name": "general", "task": "../general"}])
    lu.train(path, out=tmp_path / "out")
    held = json.loads((tmp_path / "out" / "matrix.json").read_text())
    assert held["rows"] == ["base", "reading", "general", "cardiology"]
    assert [column["name"] for column in held["columns"]] == ["general", "cardiology"]
    assert [len(row) for row in held["scores"]] == [2, 2, 2, 2]
    reading = json.loads((tmp_path / "out/stages/reading/train.json").read_text())
    assert (reading["objective"], reading["method"]) == ("pretrain", "full")
    forward = [held["scores"][row][j] - held["columns"][j]["chance"] for j, row in ((0, 1), (1, 2))]
    # both tasks had a stage before their own
    assert held["summary"]["forward_transfer"]["value"] == pytest.approx(sum(forward) / 2, abs=1e-4)


def test_a_stage_must_leave_a_model_that_writes(tmp_path: Path, tiny_model: Path) -> None:
    path = family(
        tmp_path,
        tiny_model,
        stages=[
            {
                "name": "a",
                "task": "../general",
                "training": {"objective": "sequence-classification"},
                "method": "full",
            }
        ],
    )
    with pytest.raises(InputError, match=r"`stages.0` \(a\): .*writes no answers"):
        chain(Task.load(path))


# ---- arms --------------------------------------------------------------------------------------


def test_a_task_with_stages_is_compared_with_and_without_them(home: Path, tmp_path: Path) -> None:
    task = Task.load(home / "cardiology").changed(arms=["majority", "lora", "staged"])
    run = lu.run(task, out=tmp_path / "run")
    assert [arm["name"] for arm in run.verdict["arms"]] == ["majority", "lora", "staged"]
    assert not any(arm["failed"] for arm in run.verdict["arms"])
    (why,) = [one["why"] for one in run.verdict["no_learning_curve"] if "staged" in one["arms"]]
    assert "rows of other tasks" in why
    assert why in (run.folder / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")
    folder = run.arm_folder("staged")
    assert {path.name for path in (folder / "stages").iterdir()} == {"general", "medical"}
    made_of = lineage(str(folder))
    assert [path.parent.name for path in made_of.adapters] == ["general", "medical", "staged"]
    record = run.arm_record("staged")
    assert record is not None
    assert any("test or validation questions" in note for note in record["notes"])
    stages = [
        json.loads((place / "train.json").read_text())
        for place in (folder / "stages" / "general", folder / "stages" / "medical", folder)
    ]
    assert record["costs"]["train_seconds"] == stages[2]["seconds"]
    assert stages[2]["seconds"] > stages[0]["seconds"] + stages[1]["seconds"]
    # it is served from the folder, wherever that is
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").glob("arms/staged/**/prompt.json"):
        assert "model_folder" in json.loads(path.read_text())
    answers = lu.Run.open(tmp_path / "elsewhere").arm("staged").answer(["a red box"])
    assert answers[0].text
    # the run folder's own task can be resumed: the other tasks are still found
    stored = Task.load(tmp_path / "elsewhere" / "task.yaml")
    assert [link.name for link in chain(stored)] == ["general", "medical", "cardiology"]


def test_a_task_with_a_mixture_is_compared_with_the_task_alone(
    tmp_path: Path, tiny_model: Path
) -> None:
    family(tmp_path, tiny_model)
    path = write_task(
        tmp_path / "mixed",
        tiny_model,
        name="mixed",
        rows=52,
        training=TRAINING,
        arms=["lora", "multi-task"],
        mixture={"tasks": [{"task": "../general"}, {"task": "../medical"}], "temperature": 2},
    )
    run = lu.run(path, out=tmp_path / "run")
    record = run.arm_record("multi-task")
    assert record is not None
    assert record["failed"] is None
    assert record["tasks"].keys() == {"general", "medical"}
    for table in record["tasks"].values():
        assert table["metric"] == "accuracy"
        assert 0 <= table["interval"][0] <= table["score"] <= table["interval"][1] <= 1
        assert table["n"] > 5
    # each is what `luthier evaluate` says of this model with that task's instruction
    train = json.loads((run.arm_folder("multi-task") / "train.json").read_text())
    assert train["tasks"].keys() == {"mixed", "general", "medical"}
    assert any("draws from" in note for note in record["notes"])


def test_auto_leaves_out_arms_for_stages_and_mixtures_where_there_are_none(
    tmp_path: Path, tiny_model: Path
) -> None:
    from luthier.arms.planning import choose_arms

    plain = Task.load(write_task(tmp_path / "a", tiny_model, arms="auto"))
    planned, left = choose_arms(plain)
    assert {"staged", "multi-task"} & {one.name for one in planned} == set()
    assert {one.name: one.why for one in left}["staged"] == "the task has no `stages`"
    with pytest.raises(InputError, match="the task has no `mixture`"):
        choose_arms(plain.changed(arms=["multi-task"]))
    planned, _ = choose_arms(Task.load(family(tmp_path, tiny_model, arms="auto")))
    assert "staged" in {one.name for one in planned}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stages": [{"name": "a", "task": "../nowhere"}]}, "`stages.0` (a): "),
        ({"mixture": {"tasks": [{"task": "../nowhere"}]}}, "`mixture.tasks.0.task`: "),
        ({"training": {"replay": {"from": "../nowhere.jsonl"}}}, "`training.replay.from`: "),
        (
            {"stages": [{"name": "a", "training": {"replay": {"from": "../nowhere"}}}]},
            "`training.replay.from`: ",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["check", "run", "train"])
def test_what_is_named_and_missing_is_told_before_anything_is_spent(
    tmp_path: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    changes: Any,
    expected: str,
) -> None:
    path = write_task(tmp_path / "task", tiny_model, **changes)
    out = [] if verb == "check" else ["--out", tmp_path / "out"]
    code, _, err = luthier(capsys, verb, path, *out)
    assert code == 2
    assert expected in err
    assert "nowhere" in err
    assert "does not exist" in err
    assert not (tmp_path / "out").exists()
