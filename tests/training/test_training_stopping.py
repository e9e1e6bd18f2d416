"""The validation loss, and stopping by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_fakes import config, examples, load, uneven, uneven_items

from luthier.errors import InputError
from luthier.models.adapters import add_lora
from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training.checkpoints import Checkpoints
from luthier.training.loop import StepReport, Trained, TrainingError, fit
from luthier.training.objectives.sft import Item, Sft
from luthier.training.stage import train_stage
from luthier.training.validation import Stopping


def token_weighted(model: Any, rows: list[Item]) -> float:
    """One row at a time, by transformers' own loss."""
    model.eval()
    total = 0.0
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row.ids])).logits[0].double()
            goal = torch.tensor(row.targets)
            total += float(
                torch.nn.functional.cross_entropy(logits, goal, ignore_index=-100, reduction="sum")
            )
    return total / sum(row.weight for row in rows)


def run(
    folder: Path, *, n: int = 8, dropout: float = 0.0, **values: Any
) -> tuple[Any, list[Item], Trained]:
    """Eight rows learnt by heart; the validation rows soon get worse."""
    loaded = load(folder)
    torch.manual_seed(0)
    model = add_lora(loaded.model, rank=4, alpha=8, dropout=dropout, base="tiny")
    held_out = uneven_items(loaded.tokenizer, 9, seed=77)
    asked = {k: values.pop(k) for k in ("checkpoints", "report", "evaluated") if k in values}
    given = {"epochs": 40, "learning_rate": 2e-2, "evaluate_every": 4, **values}
    rows = uneven_items(loaded.tokenizer, n)
    done = fit(model, Sft(), rows, config(**given), validation=held_out, **asked)
    return model, held_out, done


def test_it_stops_and_keeps_the_best_weights(tiny_model: Path) -> None:
    heard: list[tuple[int, float]] = []
    model, held_out, done = run(
        tiny_model, patience=3, evaluated=lambda step, loss: heard.append((step, loss))
    )
    assert done.validation == heard
    losses = dict(done.validation)
    assert list(losses) == list(range(4, done.steps + 1, 4))
    best = min(losses, key=lambda step: losses[step])
    assert done.best_step == best
    assert done.steps == best + 3 * 4 < 80
    assert all(losses[step] >= losses[best] for step in losses)
    assert losses[done.steps] > 1.001 * losses[best]
    # the model and what is stored are those of the best step
    assert token_weighted(model, held_out) == pytest.approx(losses[best], rel=1e-5)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter, done.weights[name])
    assert f"Stopped after step {done.steps} of 80" in done.notes[0]
    assert f"The weights of step {best} are kept" in done.notes[1]


def test_looking_changes_nothing_and_is_token_weighted(tiny_model: Path) -> None:
    model, held_out, looked = run(tiny_model, dropout=0.3, epochs=3, evaluate_every=1)
    loaded = load(tiny_model)
    torch.manual_seed(0)
    plain = add_lora(loaded.model, rank=4, alpha=8, dropout=0.3, base="tiny")
    rows = uneven_items(loaded.tokenizer, 8)
    alone = fit(plain, Sft(), rows, config(epochs=3, learning_rate=2e-2))
    assert looked.curve == alone.curve
    for name, value in alone.weights.items():
        assert torch.equal(value, looked.weights[name])
    assert [step for step, _ in looked.validation] == [1, 2, 3, 4, 5, 6]
    assert looked.validation[-1][1] == pytest.approx(token_weighted(model, held_out), rel=1e-5)
    means = [token_weighted(model, [row]) for row in held_out]
    assert abs(sum(means) / len(means) - looked.validation[-1][1]) > 0.01
    assert looked.best_step is None


def test_micro_batches_do_not_change_the_validation_loss(tiny_model: Path) -> None:
    losses = []
    for micro in (1, 300, 10**6):
        losses.append([x for _, x in run(tiny_model, epochs=1, micro_tokens=micro)[2].validation])
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-5)


def test_without_a_better_loss_to_come_it_trains_to_the_end(tiny_model: Path) -> None:
    _, _, done = run(tiny_model, n=32, epochs=2, learning_rate=1e-3, patience=2)
    losses = [loss for _, loss in done.validation]
    assert losses == sorted(losses, reverse=True)
    assert (done.steps, done.best_step, done.notes) == (16, 16, [])


@pytest.mark.parametrize("stop", [5, 17, 26])
def test_an_interruption_forgets_nothing_of_it(tiny_model: Path, tmp_path: Path, stop: int) -> None:
    """Best loss, best weights, and for how long nothing was better."""
    values: dict[str, Any] = {"patience": 4, "dropout": 0.2, "evaluate_every": 3}
    _, _, whole = run(tiny_model, **values)
    assert stop < whole.steps < 80
    assert whole.best_step

    def kill(step: StepReport) -> None:
        if step.step == stop:
            raise KeyboardInterrupt

    store = Checkpoints(tmp_path, "a")
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, checkpoints=store, checkpoint_every=4, report=kill, **values)
    _, _, again = run(tiny_model, checkpoints=store, checkpoint_every=4, **values)
    assert any("Continued after" in note for note in again.notes)
    assert again.validation == whole.validation
    assert again.best_step == whole.best_step
    assert again.curve == whole.curve
    for name, value in whole.weights.items():
        assert torch.equal(value, again.weights[name])


class TestByHand:
    def taken(self, losses: list[float], patience: int | None) -> tuple[int, Any]:
        stopping = Stopping(config(patience=patience, evaluate_every=1), 100)
        weight = torch.zeros(1)
        for step, loss in enumerate(losses, 1):
            weight += 1
            if stopping.take(step, loss, {"w": weight}):
                break
        stopping.restore({"w": weight})
        return len(stopping.curve), (stopping.best, float(weight))

    def test_patience_counts_looks_without_a_better_loss(self) -> None:
        assert self.taken([3, 2, 2.5, 2.4, 2.3], 2) == (4, ((2, 2), 2.0))
        assert self.taken([3, 2, 2.5, 1.9, 2.3], 2) == (5, ((4, 1.9), 4.0))
        assert self.taken([3, 2, 2.0, 2.0], 2) == (4, ((2, 2), 2.0))  # equal is not better
        assert self.taken([3, 2, 1], 1) == (3, ((3, 1), 3.0))

    def test_a_loss_that_is_not_finite_is_never_the_best(self) -> None:
        nan = float("nan")
        assert self.taken([nan, nan], 2) == (2, (None, 2.0))
        assert self.taken([2, nan, nan], 2) == (3, ((1, 2), 1.0))
        stopping = Stopping(config(patience=2), 100)
        stopping.take(1, nan, {"w": torch.zeros(1)})
        assert stopping.state()["validation"] == [[1, None]]

    def test_without_patience_it_never_stops(self) -> None:
        assert self.taken([1, 2, 3, 4, 5], None) == (5, ((1, 1), 5.0))

    def test_when_nothing_says_how_often_a_tenth_of_the_stage(self) -> None:
        stopping = Stopping(config(patience=1), 35)
        assert [step for step in range(1, 36) if stopping.due(step)] == [
            *range(3, 34, 3),
            35,
        ]


class TestStages:
    def stage(self, model: Path, folder: Path, validation: Any, **wishes: Any) -> Any:
        return train_stage(
            model_name=str(model),
            base=None,
            instruction="Count.",
            examples=uneven(12),
            wishes=Training(epochs=1, batch_size=4, precision="float32", **wishes),
            method="lora",
            seed=0,
            folder=folder,
            reporter=Reporter(),
            validation=validation,
        )

    @pytest.mark.parametrize("key", ["patience", "evaluate_every"])
    def test_it_needs_validation_rows(self, tiny_model: Path, tmp_path: Path, key: str) -> None:
        with pytest.raises(InputError, match="need validation rows"):
            self.stage(tiny_model, tmp_path, (), **{key: 2})

    def test_a_mask_that_is_empty_everywhere_is_refused(self, tiny_model: Path) -> None:
        loaded = load(tiny_model)
        rows = uneven_items(loaded.tokenizer, 4)
        blank = [Item(row.ids, [-100] * row.length) for row in rows]
        with pytest.raises(TrainingError, match="validation examples has a trained token"):
            fit(loaded.model, Sft(), rows, config(), validation=blank)

    def test_rows_that_are_too_long_are_left_out_and_counted(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        rows = examples(6, seed=3)
        result = self.stage(
            tiny_model, tmp_path, rows, evaluate_every=1, max_tokens=80, overlong="drop"
        )
        assert any("of 6 validation examples are longer than 80" in note for note in result.notes)
        assert len(result.validation) == result.steps
