"""Killed at any moment, training goes on to the very same weights, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training_fakes import config, examples, load, uneven_items

from luthier.models.adapters import add_lora
from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training import checkpoints as checkpoint_module
from luthier.training.checkpoints import Checkpoints
from luthier.training.loop import StepReport, Trained, fit
from luthier.training.method import METHODS
from luthier.training.objectives.sft import Sft
from luthier.training.stage import StageResult, train_stage

#: Twelve steps; dropout draws random numbers; validation is looked at, and may stop training.
WISHES: dict[str, Any] = {
    "learning_rate": 1e-2,
    "epochs": 3,
    "batch_size": 4,
    "rank": 4,
    "dropout": 0.2,
    "precision": "float32",
    "checkpoint_every": 2,
    "evaluate_every": 3,
    "patience": 3,
}
STEPS = 12


class Killed(BaseException):
    """Stands for a kill."""


def stage(
    model: Path,
    folder: Path,
    method: str,
    on_step: Callable[[int], None] | None = None,
    **wishes: Any,
) -> StageResult:
    class Heard(Reporter):
        def event(self, kind: str, **values: Any) -> None:
            if on_step and kind == "step":
                on_step(values["step"])

    read = METHODS.get(method).reads
    usual = {k: v for k, v in WISHES.items() if k != "rank" or "rank" in read}
    return train_stage(
        model_name=str(model),
        base=None,
        instruction="Count the words.",
        examples=examples(16),
        wishes=Training(**{**usual, **wishes}),
        method=method,
        seed=0,
        folder=folder,
        reporter=Heard(),
        validation=examples(6, seed=3),
    )


def stored(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / "model").iterdir()}


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_goes_on_to_the_same_files(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    whole = stage(tiny_model, tmp_path / "whole", method)
    stop = random.randint(3, max(3, whole.steps - 1))

    def kill(step: int) -> None:
        if step == stop:
            raise Killed

    with pytest.raises(Killed):
        stage(tiny_model, tmp_path / "cut", method, kill)
    torch.manual_seed(99)  # a new process knows nothing of the old one's random numbers
    again = stage(tiny_model, tmp_path / "cut", method)
    assert f"Continued after step {(stop - 1) // 2 * 2} of {STEPS}." in again.notes, stop
    assert again.curve == whole.curve, stop
    assert again.validation == whole.validation
    assert again.best_step == whole.best_step
    assert stored(tmp_path / "cut") == stored(tmp_path / "whole"), stop


class Driver:
    """See resume_driver.py."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).with_name("resume_driver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self, folder: Path, method: str, kill: dict[str, Any] | None = None) -> int:
        """The exit code of one stage, -9 when it was killed."""
        job = {
            "model": str(self.model),
            "folder": str(folder),
            "method": method,
            "wishes": WISHES
            if method == "lora"
            else {k: v for k, v in WISHES.items() if k != "rank"},
            "kill": kill,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(json.loads(self.process.stdout.readline())["code"])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
class TestSigkill:
    @pytest.fixture(scope="class")
    def driver(self, tiny_model: Path) -> Iterator[Driver]:
        held = Driver(tiny_model)
        yield held
        held.close()

    @pytest.fixture(scope="class")
    def whole(self, driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
        out = {}
        for method in ("lora", "full"):
            out[method] = tmp_path_factory.mktemp("whole") / method
            assert driver.run(out[method], method) == 0, out[method].with_suffix(".err")
        return out

    @pytest.mark.parametrize("method", ["lora", "full"])
    def test_at_random_moments_again_and_again(
        self, driver: Driver, whole: dict[str, Path], tmp_path: Path, method: str
    ) -> None:
        """At steps, inside a checkpoint's file, and before it is put in place; five kills in a row,
        so that what a kill leaves behind meets the next one."""
        folder, kills = tmp_path / "cut", []
        for _ in range(5):
            kill = random.choice(
                [
                    {"step": random.randint(1, STEPS - 1)},
                    {"write": random.randint(1, 2), "after": random.random()},
                    {"rename": random.randint(1, 2)},
                ]
            )
            kills.append(kill)
            code = driver.run(folder, method, kill)
            assert code in (0, -signal.SIGKILL), kills
            if code == 0:  # it had come past the moment
                break
        else:
            assert driver.run(folder, method) == 0, kills
        result = json.loads((folder / "result.json").read_text())
        wanted = json.loads((whole[method] / "result.json").read_text())
        assert result["curve"] == wanted["curve"], kills
        assert result["validation"] == wanted["validation"], kills
        assert result["tokens"] == wanted["tokens"]
        assert stored(folder) == stored(whole[method]), kills
        assert not (folder / "checkpoints").exists()

    @pytest.mark.parametrize("kill", [{"write": 3, "after": 0.5}, {"rename": 3}])
    def test_inside_a_checkpoint_the_one_before_serves(
        self, driver: Driver, whole: dict[str, Path], tmp_path: Path, kill: dict[str, Any]
    ) -> None:
        folder = tmp_path / "cut"
        assert driver.run(folder, "lora", kill) == -signal.SIGKILL
        left = sorted(p.name for p in (folder / "checkpoints").iterdir())
        assert [name[:12] for name in left if name.startswith("step-")] == [
            "step-0000002",
            "step-0000004",
        ]
        assert sum(name.endswith(".part") for name in left) == 1
        assert driver.run(folder, "lora") == 0
        notes = json.loads((folder / "result.json").read_text())["notes"]
        assert f"Continued after step 4 of {STEPS}." in notes
        assert stored(folder) == stored(whole["lora"])


def tiny_fit(
    folder: Path, store: Checkpoints | None, stop: int | None = None, **values: Any
) -> Trained:
    loaded = load(folder)
    torch.manual_seed(0)
    model = add_lora(loaded.model, rank=2, alpha=4, dropout=0.3, base="tiny")

    def kill(step: StepReport) -> None:
        if step.step == stop:
            raise Killed

    rows = uneven_items(loaded.tokenizer, 12)
    settings = config(**{"epochs": 3, "checkpoint_every": 2, "learning_rate": 1e-2, **values})
    return fit(model, Sft(), rows, settings, checkpoints=store, report=kill)


@pytest.fixture(scope="module")
def uninterrupted(tiny_model: Path) -> Trained:
    return tiny_fit(tiny_model, None)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    stops=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    every=st.integers(1, 4),
    keep=st.integers(1, 3),
)
def test_any_series_of_interruptions(
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
    uninterrupted: Trained,
    stops: list[int],
    every: int,
    keep: int,
) -> None:
    folder = tmp_path_factory.mktemp("stops")
    for stop in stops:
        try:
            tiny_fit(tiny_model, Checkpoints(folder, "a", keep=keep), stop, checkpoint_every=every)
        except Killed:
            assert len(list(folder.glob("step-*"))) <= keep
    again = tiny_fit(tiny_model, Checkpoints(folder, "a", keep=keep), checkpoint_every=every)
    assert again.curve == uninterrupted.curve
    assert again.tokens == uninterrupted.tokens
    for name, value in uninterrupted.weights.items():
        assert torch.equal(value, again.weights[name])


class TestWhatIsOnDisk:
    """Cut and flipped tensors, and a broken state.json: see test_training_loop.py."""

    def interrupted(self, tiny_model: Path, folder: Path) -> tuple[Path, Path]:
        with pytest.raises(Killed):
            tiny_fit(tiny_model, Checkpoints(folder, "a"), 7)
        old, new = sorted(folder.glob("step-*"))
        return old, new

    @pytest.mark.parametrize("damage", ["a digit", "a key", "another stage", "nothing there"])
    def test_a_state_that_was_changed_is_passed_over(
        self, tiny_model: Path, tmp_path: Path, uninterrupted: Trained, damage: str
    ) -> None:
        _, new = self.interrupted(tiny_model, tmp_path)
        path = new / "state.json"
        state = json.loads(path.read_text())
        if damage == "a digit":
            path.write_text(path.read_text().replace('"step": 6', '"step": 5'))
        elif damage == "a key":
            del state["tokens"]
            path.write_text(json.dumps(state))
        elif damage == "another stage":
            store = Checkpoints(tmp_path / "other", "a" * 5)
            store.save(6, {"x": torch.zeros(1)}, {})
            (made,) = (tmp_path / "other").iterdir()
            path.write_text((made / "state.json").read_text())
        else:
            path.unlink()
            (new / "state.safetensors").unlink()
        again = tiny_fit(tiny_model, Checkpoints(tmp_path, "a"))
        assert f"Checkpoint {new.name} is damaged and was passed over" in again.notes[0]
        assert "Continued after step 4 of 9." in again.notes
        assert again.curve == uninterrupted.curve
        for name, value in uninterrupted.weights.items():
            assert torch.equal(value, again.weights[name])

    def test_a_write_that_fails_leaves_what_was_there(
        self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An exception instead of a kill: the half-written folder is gone."""
        save, calls = checkpoint_module.save_file, 0

        def fail(tensors: Any, path: Path) -> None:
            nonlocal calls
            calls += 1
            save(tensors, path)
            if calls == 3:
                raise Killed

        monkeypatch.setattr(checkpoint_module, "save_file", fail)
        with pytest.raises(Killed):
            tiny_fit(tiny_model, Checkpoints(tmp_path, "a"))
        assert [p.name[:12] for p in sorted(tmp_path.iterdir())] == ["step-0000002", "step-0000004"]

    def test_what_a_kill_left_half_written_is_removed(self, tmp_path: Path) -> None:
        store = Checkpoints(tmp_path, "a")
        store.save(2, {"x": torch.ones(2)}, {})
        half = tmp_path / ".step-0000004-a.xyz.part"
        half.mkdir()
        (half / "state.safetensors").write_bytes(b"half")
        found, notes = store.newest()
        assert found is not None
        assert notes == []
        assert not half.exists()

    def test_the_task_says_how_many_are_kept(self, tiny_model: Path, tmp_path: Path) -> None:
        def kill(step: int) -> None:
            if step == 11:
                raise Killed

        for keep in (1, 3):
            with pytest.raises(Killed):
                stage(tiny_model, tmp_path / str(keep), "lora", kill, keep_checkpoints=keep)
            found = sorted((tmp_path / str(keep) / "checkpoints").glob("step-*"))
            assert [int(p.name[5:12]) for p in found] == [6, 8, 10][-keep:]

    def test_what_changes_no_number_may_change_before_going_on(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        """Such as gradient_checkpointing, which is what one sets after running out of memory."""

        def kill(step: int) -> None:
            if step == 7:
                raise Killed

        whole = stage(tiny_model, tmp_path / "whole", "lora")
        with pytest.raises(Killed):
            stage(tiny_model, tmp_path / "cut", "lora", kill)
        again = stage(
            tiny_model,
            tmp_path / "cut",
            "lora",
            checkpoint_every=5,
            keep_checkpoints=1,
            gradient_checkpointing=True,
        )
        assert f"Continued after step 6 of {STEPS}." in again.notes
        assert again.curve == whole.curve
        assert stored(tmp_path / "cut") == stored(tmp_path / "whole")
