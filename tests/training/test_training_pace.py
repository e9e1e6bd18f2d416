"""How many epochs there is time for: by arithmetic, and by a trial where that is in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_fakes import examples

from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training import pace
from luthier.training.config import TrainingConfig, decide
from luthier.training.foresee import Foreseen
from luthier.training.pace import epoch_seconds, within_budget
from luthier.training.stage import StageResult, train_stage

WISHES = Training(
    learning_rate=1e-2, batch_size=4, rank=4, dropout=0.1, precision="float32", checkpoint_every=1
)


def config(**changes: Any) -> TrainingConfig:
    decided = decide(
        Training(),
        method="lora",
        examples=10,
        hidden_size=32,
        context_length=64,
        bfloat16=False,
        seed=0,
    )
    return decided.model_copy(update=changes)


def epochs(
    folder: Path,
    minutes: float,
    identity: str = "a",
    *,
    reckoned: float = 60,
    tried: float | None = None,
) -> float:
    found, notes = within_budget(
        config(),
        reckoned=reckoned,
        tried=lambda: reckoned if tried is None else tried,
        minutes=minutes,
        memory=folder / "epochs.json",
        identity=identity,
    )
    assert bool(notes) == (found.epochs < 3)
    if notes:
        assert f"{found.epochs:g} instead of 3 epochs" in notes[0]
    return found.epochs


def test_fewer_epochs_where_time_is_short(tmp_path: Path) -> None:
    # an epoch takes a minute
    for index, (minutes, wanted) in enumerate([(0.1, 1), (1.5, 1), (2.5, 2), (3, 3), (99, 3)]):
        assert epochs(tmp_path / str(index), minutes) == wanted


@pytest.mark.parametrize(
    ("minutes", "tried", "wanted"),
    [
        (1.5, 10.0, 3),  # faster than reckoned
        (1.5, 45.0, 2),
        (3.5, 100.0, 2),  # slower than reckoned, though all seemed to fit
        (7.0, 1e9, 3),  # there is plenty: no trial is made
    ],
)
def test_a_trial_corrects_what_was_reckoned(
    tmp_path: Path, minutes: float, tried: float, wanted: float
) -> None:
    assert epochs(tmp_path, minutes, tried=tried) == wanted


def test_what_was_decided_stays_decided_after_an_interruption(tmp_path: Path) -> None:
    assert epochs(tmp_path, 2.5) == 2
    assert epochs(tmp_path, 1.1, reckoned=90) == 2
    assert epochs(tmp_path, 1.1, "other") == 1
    (tmp_path / "epochs.json").write_text("{broken")
    assert epochs(tmp_path, 99) == 3


# ---- the trial -----------------------------------------------------------------------------------


@dataclass
class Row:
    length: int
    weight: float = 1.0


class Clocked:
    """An objective whose loss takes so many seconds by a clock of its own, the first time more."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self.now, self.seconds, self.error = 0.0, seconds, error
        self.asked: list[Sequence[Row]] = []
        self.forgotten = 0

    def loss(self, model: Any, items: Sequence[Row]) -> torch.Tensor:
        if self.error:
            raise self.error
        self.now += self.seconds * (1 if self.asked else 50)
        self.asked.append(items)
        loss: torch.Tensor = model(torch.ones(1, 2)).sum()
        return loss

    def taken(self) -> dict[str, float]:
        self.forgotten += 1
        return {}


class Model(torch.nn.Linear):
    """As little of a transformers model as the loop asks for."""

    @property
    def base_model(self) -> torch.nn.Module:
        return self


def tried(objective: Clocked, monkeypatch: pytest.MonkeyPatch, model: Any) -> float:
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: objective.now))
    foreseen = Foreseen(30.0, 10.0, 0, True, "", "", typical=(2, 0), typical_seconds=0.5)
    rows = [Row(3), Row(4), Row(5)]
    found = epoch_seconds(model, objective, rows, config(), foreseen)  # type: ignore[arg-type]
    assert all(some == [rows[2], rows[0]] for some in objective.asked)
    return found


def test_the_trial_scales_the_epoch_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, objective = Model(2, 1).eval(), Clocked(0.2)
    assert tried(objective, monkeypatch, model) == pytest.approx(10.0 * 0.2 / 0.5)
    assert len(objective.asked) == 3
    assert objective.forgotten == 1
    assert model.weight.grad is None
    assert not model.training


def test_a_trial_without_memory_falls_back_to_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(2, 1)
    assert tried(Clocked(0.2, MemoryError()), monkeypatch, model) == 10.0
    with pytest.raises(RuntimeError, match="a bug"):
        tried(Clocked(0.2, RuntimeError("a bug")), monkeypatch, model)


# ---- in a stage ----------------------------------------------------------------------------------


def stage(model: Path, folder: Path, minutes: float | None, method: str = "lora") -> StageResult:
    return train_stage(
        model_name=str(model),
        base=None,
        instruction="Count the words.",
        examples=examples(12),
        wishes=WISHES,
        method=method,
        seed=0,
        folder=folder,
        reporter=Reporter(),
        minutes=minutes,
    )


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_trial_changes_nothing_of_what_is_trained(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    made: list[float] = []
    trial = pace.epoch_seconds

    def counted(*given: Any) -> float:
        made.append(trial(*given))
        return 1e-6

    monkeypatch.setattr(pace, "epoch_seconds", counted)
    monkeypatch.setattr(pace, "_DOUBT", 0.0)
    with_trial = stage(tiny_model, tmp_path / "a", 60.0, method)
    without = stage(tiny_model, tmp_path / "b", None, method)
    assert len(made) == 1 and made[0] > 0
    assert with_trial.curve == without.curve
    assert with_trial.full_epochs is None
    for path in (tmp_path / "a" / "model").glob("*.safetensors"):
        one, other = load_file(path), load_file(tmp_path / "b" / "model" / path.name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_stage_without_time_trains_one_epoch(tiny_model: Path, tmp_path: Path) -> None:
    short = stage(tiny_model, tmp_path / "a", 1e-9)
    assert short.steps == 3
    assert short.full_epochs == 3
    assert any("to stay within the budget" in note for note in short.notes)


def test_epochs_that_were_asked_for_are_trained(tiny_model: Path, tmp_path: Path) -> None:
    asked = train_stage(
        model_name=str(tiny_model),
        base=None,
        instruction="Count the words.",
        examples=examples(12),
        wishes=WISHES.model_copy(update={"epochs": 2}),
        method="lora",
        seed=0,
        folder=tmp_path,
        reporter=Reporter(),
        minutes=1e-9,
    )
    assert asked.steps == 6
    assert asked.full_epochs is None
