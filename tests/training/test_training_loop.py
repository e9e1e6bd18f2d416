"""The loop: accumulation, interruption, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from training_fakes import config, items, load

from luthier.models.adapters import add_lora
from luthier.training.checkpoints import Checkpoints
from luthier.training.config import TrainingConfig
from luthier.training.loop import StepReport, Trained, TrainingError, fit, trainable
from luthier.training.objectives.sft import IGNORED, Item, Sft


class KillError(Exception):
    """Stands for a kill."""


def prepared(
    folder: Path, method: str = "full", dropout: float = 0.0, dtype: Any = None
) -> tuple[Any, Any]:
    loaded = load(folder, dtype)
    model = loaded.model
    if method == "lora":
        torch.manual_seed(0)
        model = add_lora(model, rank=4, alpha=8, dropout=dropout, base="tiny")
    return model, loaded.tokenizer


def same(one: Trained, other: Trained) -> None:
    """Bit for bit."""
    assert one.curve == other.curve
    assert one.weights.keys() == other.weights.keys()
    for name, value in one.weights.items():
        assert torch.equal(value, other.weights[name]), name


class TestAccumulation:
    def test_micro_batches_change_nothing(self, tiny_model: Path) -> None:
        results = []
        for micro in (1, 60, 100_000):
            model, tokenizer = prepared(tiny_model)
            rows = items(tokenizer, 12)
            # very different weights, so that a mean of means would show
            rows[::3] = [Item(r.ids, [*r.ids[1:], tokenizer.eos_token_id]) for r in rows[::3]]
            results.append(fit(model, Sft(), rows, config(micro_tokens=micro, epochs=2)))
        for other in results[1:]:
            for (_, a), (_, b) in zip(results[0].curve, other.curve, strict=True):
                assert a == pytest.approx(b, rel=1e-5)
            for name, value in results[0].weights.items():
                torch.testing.assert_close(value, other.weights[name], rtol=1e-4, atol=1e-5)

    def test_a_step_is_normalised_by_all_its_tokens(self, tiny_model: Path) -> None:
        """The loss of a step is not a mean of means: rows weigh by their trained tokens."""
        model, tokenizer = prepared(tiny_model)
        short, long = items(tokenizer, 2)[0], items(tokenizer, 30)[-1]
        long = Item(long.ids, [*long.ids[1:], tokenizer.eos_token_id])  # trained on everything
        assert long.weight > 3 * short.weight
        sums = [float(Sft().loss(model, [row]).detach()) for row in (short, long)]
        seen: list[StepReport] = []
        fit(
            model,
            Sft(),
            [short, long],
            config(batch_size=2, micro_tokens=1, max_grad_norm=1e9),
            report=seen.append,
        )
        assert seen[0].loss == pytest.approx(sum(sums) / (short.weight + long.weight), rel=1e-5)
        means = sum(s / r.weight for s, r in zip(sums, (short, long), strict=True)) / 2
        assert abs(seen[0].loss - means) > 0.01

    def test_reports_count_tokens_and_steps(self, tiny_model: Path) -> None:
        model, tokenizer = prepared(tiny_model)
        rows = items(tokenizer, 10)
        seen: list[StepReport] = []
        done = fit(model, Sft(), rows, config(epochs=2), report=seen.append)
        assert [s.step for s in seen] == [1, 2, 3, 4, 5, 6]
        assert {s.steps for s in seen} == {6} == {done.steps}
        assert seen[-1].tokens == done.tokens == 2 * sum(row.length for row in rows)
        assert done.final_loss == seen[-1].loss == done.curve[-1][1]
        assert done.curve[-1][1] < done.curve[0][1]
        assert done.weights.keys() == trainable(model).keys()
        assert not model.training


@pytest.mark.parametrize(
    ("method", "dropout", "precision"),
    [
        ("full", 0.0, torch.float32),
        ("lora", 0.0, torch.bfloat16),
        ("lora", 0.3, torch.float32),
    ],
    ids=["full", "lora in bfloat16", "lora with dropout"],
)
class TestInterruption:
    def settings(self) -> TrainingConfig:
        return config(epochs=3, checkpoint_every=2, learning_rate=1e-2)

    def test_it_continues_to_the_same_weights(
        self, tiny_model: Path, tmp_path: Path, method: str, dropout: float, precision: Any
    ) -> None:
        model, tokenizer = prepared(tiny_model, method, dropout, precision)
        rows = items(tokenizer, 12)
        whole = fit(model, Sft(), rows, self.settings())
        assert whole.steps == 9
        for stop in (1, 2, 5, 8):
            store = Checkpoints(tmp_path / str(stop), "same")

            def kill(step: StepReport, at: int = stop) -> None:
                if step.step == at:
                    raise KillError

            model, _ = prepared(tiny_model, method, dropout, precision)
            with pytest.raises(KillError):
                fit(model, Sft(), rows, self.settings(), checkpoints=store, report=kill)
            torch.manual_seed(99)  # a new process knows nothing of the old one's random numbers
            torch.rand(7)
            model, _ = prepared(tiny_model, method, dropout, precision)
            seen: list[int] = []
            again = fit(
                model,
                Sft(),
                rows,
                self.settings(),
                checkpoints=store,
                report=lambda step, seen=seen: seen.append(step.step),
            )
            # a checkpoint is written after the step has been reported
            last = (stop - 1) // 2 * 2
            assert seen == list(range(last + 1, 10))
            said = [f"Continued after step {last} of 9."] if last else []
            assert again.notes == said
            assert again.tokens == whole.tokens
            same(again, whole)
            for name, parameter in trainable(model).items():
                assert torch.equal(parameter, whole.weights[name].to(precision))


class TestCheckpoints:
    def trained(
        self, tiny_model: Path, folder: Path, identity: str = "a", stop: int | None = None
    ) -> Trained:
        model, tokenizer = prepared(tiny_model)

        def kill(step: StepReport) -> None:
            if step.step == stop:
                raise KillError

        return fit(
            model,
            Sft(),
            items(tokenizer, 12),
            config(epochs=3, checkpoint_every=2),
            checkpoints=Checkpoints(folder, identity),
            report=kill,
        )

    @pytest.mark.parametrize("damage", ["cut", "flipped", "no state", "broken state"])
    def test_a_damaged_one_is_passed_over_and_named(
        self, tiny_model: Path, tmp_path: Path, damage: str
    ) -> None:
        whole = self.trained(tiny_model, tmp_path / "whole")
        with pytest.raises(KillError):
            self.trained(tiny_model, tmp_path, stop=7)
        old, new = sorted(tmp_path.glob("step-*"))
        tensors = new / "state.safetensors"
        if damage == "cut":
            tensors.write_bytes(tensors.read_bytes()[:-100])
        elif damage == "flipped":
            data = bytearray(tensors.read_bytes())
            data[-1] ^= 1
            tensors.write_bytes(bytes(data))
        elif damage == "no state":
            (new / "state.json").unlink()
        else:
            (new / "state.json").write_text('{"step": 6, "ident')
        again = self.trained(tiny_model, tmp_path)
        assert "step-0000004" in old.name
        assert f"Checkpoint {new.name} is damaged" in again.notes[0]
        assert again.notes[1] == "Continued after step 4 of 9."
        same(again, whole)

    def test_when_all_are_damaged_it_starts_again_and_says_so(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(KillError):
            self.trained(tiny_model, tmp_path, stop=7)
        for folder in tmp_path.glob("step-*"):
            (folder / "state.safetensors").write_bytes(b"")
        seen = self.trained(tiny_model, tmp_path)
        assert sum("is damaged" in note for note in seen.notes) == 2
        assert not any("Continued" in note for note in seen.notes)
        assert len(seen.curve) == 9

    def test_one_of_other_settings_is_neither_used_nor_overwritten(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(KillError):
            self.trained(tiny_model, tmp_path, "the other one", stop=9)
        others = {path: (path / "state.json").read_text() for path in tmp_path.glob("step-*")}
        with pytest.raises(KillError):
            self.trained(tiny_model, tmp_path, "a", stop=3)
        again = self.trained(tiny_model, tmp_path, "a", stop=None)
        assert again.notes == ["Continued after step 2 of 9."]
        assert {path: (path / "state.json").read_text() for path in others} == others
        fresh = self.trained(tiny_model, tmp_path, "a third")
        assert "belong to other data, settings or another model" in fresh.notes[0]

    def test_the_newest_two_are_kept_until_they_are_cleared(self, tmp_path: Path) -> None:
        store = Checkpoints(tmp_path / "c", "a")
        for step in (5, 10, 1000):
            store.save(step, {"x": torch.full((2,), float(step))}, {"curve": [[1, 0.5]]})
        assert [p.name[:12] for p in sorted((tmp_path / "c").iterdir())] == [
            "step-0000010",
            "step-0001000",
        ]
        found, notes = store.newest()
        assert found is not None
        assert found.tensors["x"].tolist() == [1000, 1000]
        assert found.state["curve"] == [[1, 0.5]]
        assert notes == []
        store.clear()
        assert not (tmp_path / "c").exists()
        assert store.newest() == (None, [])

    def test_they_hold_no_pickles(self, tiny_model: Path, tmp_path: Path) -> None:
        with pytest.raises(KillError):
            self.trained(tiny_model, tmp_path, stop=7)
        names = {p.name for p in tmp_path.rglob("*") if p.is_file()}
        assert names == {"state.json", "state.safetensors"}
        for path in tmp_path.rglob("state.json"):
            assert json.loads(path.read_text())["identity"] == "a"


class TestRefusals:
    def test_a_loss_that_is_not_finite_is_named_and_the_checkpoint_kept(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        model, tokenizer = prepared(tiny_model)
        rows = items(tokenizer, 12)
        settings = config(epochs=3, checkpoint_every=1)

        def ruin(step: StepReport) -> None:
            if step.step == 3:
                with torch.no_grad():
                    model.get_input_embeddings().weight[:] = float("nan")

        with pytest.raises(TrainingError, match=r"loss is not finite at step 4 of 9") as error:
            fit(
                model,
                Sft(),
                rows,
                settings,
                checkpoints=Checkpoints(tmp_path, "a"),
                report=ruin,
            )
        assert "learning_rate" in error.value.fix
        assert sorted(p.name[:12] for p in tmp_path.iterdir()) == ["step-0000002", "step-0000003"]
        # what was stored is whole: the float32 masters, not the ruined model
        model, _ = prepared(tiny_model)
        again = fit(model, Sft(), rows, settings, checkpoints=Checkpoints(tmp_path, "a"))
        assert all(bool(value.isfinite().all()) for value in again.weights.values())

    @pytest.mark.parametrize("epochs", [1, 3], ids=["last step", "on the way"])
    def test_a_learning_rate_beyond_all_measure_is_named(
        self, tiny_model: Path, epochs: int
    ) -> None:
        model, tokenizer = prepared(tiny_model)
        with pytest.raises(TrainingError, match=r"not finite .*learning rate 1e\+39"):
            fit(
                model,
                Sft(),
                items(tokenizer, 4),
                config(learning_rate=1e39, epochs=epochs),
            )

    def test_nothing_to_learn_from_is_refused(self, tiny_model: Path) -> None:
        model, tokenizer = prepared(tiny_model)
        rows = [Item(row.ids, [IGNORED] * row.length) for row in items(tokenizer, 4)]
        with pytest.raises(TrainingError, match="loss mask is empty everywhere"):
            fit(model, Sft(), rows, config())
        with pytest.raises(TrainingError, match="loss mask is empty everywhere"):
            fit(model, Sft(), [], config())

    def test_a_batch_without_trained_tokens_is_named(self, tiny_model: Path) -> None:
        model, tokenizer = prepared(tiny_model)
        rows = items(tokenizer, 3)
        rows[1] = Item(rows[1].ids, [IGNORED] * rows[1].length)
        with pytest.raises(TrainingError, match=r"no trained token \(training examples 2\)"):
            fit(model, Sft(), rows, config(batch_size=1))

    def test_a_row_without_trained_tokens_is_not_read(self, tiny_model: Path) -> None:
        model, tokenizer = prepared(tiny_model)
        rows = items(tokenizer, 4)
        blank = Item(rows[1].ids, [IGNORED] * rows[1].length)
        some = fit(model, Sft(), [rows[0], blank, rows[2], rows[3]], config(batch_size=4))
        model, _ = prepared(tiny_model)
        three = fit(model, Sft(), [rows[0], rows[2], rows[3]], config(batch_size=4))
        assert some.tokens == three.tokens
        assert some.final_loss == pytest.approx(three.final_loss, rel=1e-6)

    def test_training_that_changes_nothing_is_an_error(self, tiny_model: Path) -> None:
        model, tokenizer = prepared(tiny_model)
        with pytest.raises(TrainingError, match="changed no weight"):
            fit(model, Sft(), items(tokenizer, 4), config(learning_rate=1e-60))


def test_lora_in_bfloat16_follows_float32(tiny_model: Path) -> None:
    curves = []
    for dtype in (torch.float32, torch.bfloat16):
        model, tokenizer = prepared(tiny_model, "lora", dtype=dtype)
        done = fit(model, Sft(), items(tokenizer, 32), config(epochs=4, learning_rate=1e-2))
        curves.append([loss for _, loss in done.curve])
        assert all(value.dtype == torch.float32 for value in done.weights.values())
        assert all(p.dtype == dtype for p in trainable(model).values())
    for exact, half in zip(*curves, strict=True):
        assert half == pytest.approx(exact, rel=0.03)
    assert curves[1][-1] < 0.8 * curves[1][0]


def test_it_follows_a_plain_transformers_and_peft_loop(tiny_model: Path) -> None:
    """Ten steps of LoRA, written as anyone would with transformers and peft."""
    from transformers import get_cosine_schedule_with_warmup

    from luthier.training.batches import plan

    settings = config(
        epochs=2.5, learning_rate=5e-3, weight_decay=0.1, warmup=0.0, max_grad_norm=0.5
    )
    model, tokenizer = prepared(tiny_model, "lora")
    rows = items(tokenizer, 16)
    ours = fit(model, Sft(), rows, settings)
    assert ours.steps == 10

    model, _ = prepared(tiny_model, "lora")
    model.train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=5e-3, weight_decay=0.1)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, 10)
    theirs = []
    for batch in plan([row.length for row in rows], batch_size=4, epochs=2.5, seed=0):
        width = max(rows[row].length for row in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        labels = torch.full((len(batch), width), -100)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        for place, row in enumerate(batch):
            item = rows[row]
            ids[place, : item.length] = torch.tensor(item.ids)
            labels[place, : item.length] = torch.tensor(item.targets)
            mask[place, : item.length] = 1
        logits = model(input_ids=ids, attention_mask=mask).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        theirs.append(float(loss.detach()))
    assert [loss for _, loss in ours.curve] == pytest.approx(theirs, rel=1e-5)
    assert theirs[-1] < theirs[0]
