"""Runs that have gone wrong are told from runs that are merely noisy, and named."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from training_fakes import config, load, uneven, uneven_items

from luthier.models.adapters import add_lora
from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training.checkpoints import Checkpoints
from luthier.training.loop import StepReport, Trained, TrainingError, fit
from luthier.training.objectives.sft import Item, Sft
from luthier.training.stage import train_stage
from luthier.training.watch import LEVEL_STEPS, RISEN_STEPS, DivergenceWatch


def fires(losses: list[float]) -> int | None:
    """At which loss, from 1, or None."""
    watch = DivergenceWatch()
    for step, loss in enumerate(losses, 1):
        if watch.add(loss):
            return step
    return None


class TestTheLossHasRisen:
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        start=st.floats(0.05, 12),
        end=st.floats(0.0, 1.0),
        fall=st.floats(1, 200),
        noise=st.floats(0, 0.5),
        steps=st.integers(1, 400),
        seed=st.integers(0, 10**6),
    )
    def test_noisy_runs_that_fall_or_stand_are_left_alone(
        self, start: float, end: float, fall: float, noise: float, steps: int, seed: int
    ) -> None:
        """Each step's loss is log-normal around a level that falls or stands, as far apart as rows
        of very different difficulty, one a batch."""
        source = random.Random(seed)
        level = [start * (end + (1 - end) * math.exp(-step / fall)) for step in range(steps)]
        assert fires([one * math.exp(noise * source.gauss(0, 1)) for one in level]) is None

    @given(
        st.lists(st.floats(0.9, 1.1), min_size=LEVEL_STEPS, max_size=60),
        st.integers(0, 30),
        st.floats(1.7, 50),
    )
    def test_it_fires_after_ten_high_losses_in_a_row_and_not_before(
        self, normal: list[float], high: int, height: float
    ) -> None:
        """A spike that recovers is no divergence."""
        assert fires(normal + [height] * min(high, RISEN_STEPS - 1) + normal) is None
        found = fires(normal + [height] * (RISEN_STEPS + high))
        assert found == len(normal) + RISEN_STEPS

    def test_near_zero_the_rise_must_be_large_in_itself(self) -> None:
        assert fires([0.001] * 20 + [0.3] * 50) is None
        assert fires([0.001] * 20 + [0.6] * 50) == 30

    def test_what_a_policy_gradient_calls_its_loss_may_be_negative(self) -> None:
        assert fires([-0.3, 0.2, -0.1, 0.1, 0.3] * 20) is None
        assert fires([-1.0] * 20 + [-0.2] * 10) == 30

    def test_a_rate_far_too_high_is_named_and_what_was_good_is_kept(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        loaded = load(tiny_model)
        rows = uneven_items(loaded.tokenizer, 32)
        settings = config(epochs=20, learning_rate=10.0, warmup=0.2, checkpoint_every=1)
        seen: list[StepReport] = []
        with pytest.raises(TrainingError) as error:
            fit(
                loaded.model,
                Sft(),
                rows,
                settings,
                checkpoints=Checkpoints(tmp_path, "a"),
                report=seen.append,
                names=[f"rows.csv row {row + 2}" for row in range(32)],
            )
        last = seen[-1]
        said = str(error.value)
        assert f"stays up at step {last.step} of 160" in said
        assert f"learning rate {last.learning_rate:g}" in said
        assert said.count("rows.csv row") == 4
        assert "Lower training.learning_rate" in error.value.fix
        assert last.step < 100, "told long before the end"
        good = min(one.loss for one in seen)
        for folder in tmp_path.iterdir():
            step = int(folder.name[5:12])
            assert step <= last.step - RISEN_STEPS
            assert seen[step - 1].loss < 3 * good + 10


def test_a_loss_that_did_not_fall_is_noted(tiny_model: Path) -> None:
    """Too little for an error: it may be what the rows are like."""
    for rate, noted in ((1.0, True), (1e-3, False)):
        loaded = load(tiny_model)
        rows = uneven_items(loaded.tokenizer, 40)
        done = fit(loaded.model, Sft(), rows, config(learning_rate=rate, warmup=0.5))
        assert len(done.curve) == 10
        assert any("did not fall" in note for note in done.notes) == noted


class _Wrapped:
    """The objective with its loss changed on the way."""

    def __init__(self, change: Callable[[torch.Tensor, list[Item]], torch.Tensor]) -> None:
        self.change, self.inner = change, Sft()

    def sizes(self, items: Any) -> list[int]:
        return self.inner.sizes(items)

    def loss(self, model: Any, items: Any) -> torch.Tensor:
        return self.change(self.inner.loss(model, items), list(items))


class TestNumbers:
    def test_a_gradient_that_is_not_finite_is_named_with_its_rows(self, tiny_model: Path) -> None:
        loaded = load(tiny_model)
        rows = uneven_items(loaded.tokenizer, 12)
        calls = 0

        def ruin(loss: torch.Tensor, _: list[Item]) -> torch.Tensor:
            nonlocal calls
            calls += 1
            # finite, with an infinite slope
            return loss if calls < 3 else loss + torch.sqrt(loss - loss)

        seen: list[StepReport] = []
        with pytest.raises(TrainingError, match=r"gradient is not finite at step 3 of 6") as error:
            fit(
                loaded.model,
                _Wrapped(ruin),
                rows,
                config(epochs=2, micro_tokens=10**6),
                report=seen.append,
                names=[f"row {row}" for row in range(12)],
            )
        assert len(seen) == 2
        assert str(error.value).count("row ") == 4
        assert "learning rate" in error.value.message

    def test_weights_that_are_not_finite_are_never_stored(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        loaded = load(tiny_model)
        settings = config(epochs=3, learning_rate=1e39, checkpoint_every=1)
        with pytest.raises(TrainingError, match=r"not finite after step 1 of 9 .*e\+39"):
            fit(
                loaded.model,
                Sft(),
                uneven_items(loaded.tokenizer, 12),
                settings,
                checkpoints=Checkpoints(tmp_path, "a"),
            )
        assert not list(tmp_path.iterdir())

    def test_no_change_is_found_after_ten_steps(self, tiny_model: Path) -> None:
        loaded = load(tiny_model)
        seen: list[StepReport] = []
        with pytest.raises(TrainingError, match=r"changed no weight in 10 of 24 steps .*examples"):
            fit(
                loaded.model,
                _Wrapped(lambda loss, _: loss.detach() + 0 * loss),
                uneven_items(loaded.tokenizer, 12),
                config(epochs=8),
                report=seen.append,
            )
        assert len(seen) == 10

    def test_an_all_masked_batch_is_found_before_anything_is_computed(
        self, tiny_model: Path
    ) -> None:
        loaded = load(tiny_model)
        rows = uneven_items(loaded.tokenizer, 5)
        rows[3] = Item(rows[3].ids, [-100] * rows[3].length)
        with pytest.raises(TrainingError, match=r"no trained token .*examples d\): step \d of 5"):
            fit(
                loaded.model,
                _Wrapped(lambda loss, _: pytest.fail("computed")),
                rows,
                config(batch_size=1),
                names=list("abcde"),
            )


CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 40000000000 bytes. Error code 12 (Cannot allocate memory)"
)
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


class _Small:
    """As much memory as `tokens` padded tokens need; says what was computed at once."""

    def __init__(self, tokens: int, error: BaseException = CPU, late: bool = False) -> None:
        self.tokens, self.error, self.late = tokens, error, late
        self.inner, self.parts = Sft(), []  # type: ignore[var-annotated]

    def sizes(self, items: Any) -> list[int]:
        return self.inner.sizes(items)

    def loss(self, model: Any, items: Any) -> torch.Tensor:
        padded = len(items) * max(item.length for item in items)
        loss = self.inner.loss(model, items)
        if padded > self.tokens:
            if self.late:  # in the backward pass, with gradients half made
                return _FailsBackward.apply(loss, self.error)  # type: ignore[no-any-return]
            raise self.error
        self.parts.append(padded)
        return loss


class _FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor, error: BaseException) -> torch.Tensor:
        ctx.error = error
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        raise ctx.error


def lora_fit(folder: Path, objective: Any, *, dropout: float = 0.0, **values: Any) -> Trained:
    loaded = load(folder)
    torch.manual_seed(0)
    model = add_lora(loaded.model, rank=4, alpha=8, dropout=dropout, base="tiny")
    rows = uneven_items(loaded.tokenizer, 24)
    asked = {k: values.pop(k) for k in ("notice", "checkpoints", "report") if k in values}
    return fit(model, objective, rows, config(batch_size=8, epochs=2, **values), **asked)


class TestMemory:
    @pytest.mark.parametrize("late", [False, True], ids=["forward", "backward"])
    @pytest.mark.parametrize("error", [CPU, GPU, MemoryError()], ids=["cpu", "gpu", "python"])
    def test_micro_batches_shrink_and_the_result_stays(
        self, tiny_model: Path, error: BaseException, late: bool
    ) -> None:
        said: list[str] = []
        small = _Small(400, error, late)
        less = lora_fit(tiny_model, small, micro_tokens=5000, notice=said.append)
        enough = lora_fit(tiny_model, Sft(), micro_tokens=5000)
        assert max(small.parts) <= 400
        for (_, a), (_, b) in zip(less.curve, enough.curve, strict=True):
            assert a == pytest.approx(b, rel=1e-6)
        for name, value in less.weights.items():
            torch.testing.assert_close(value, enough.weights[name], rtol=1e-4, atol=1e-5)
        assert said
        assert all("Memory ran out at step 1 of 6" in one for one in said[:1])
        assert less.notes == said

    def test_a_step_is_redone_from_its_beginning(self, tiny_model: Path) -> None:
        """With dropout: gradients and random numbers of the failed attempt leave no trace."""
        small = _Small(400)
        less = lora_fit(tiny_model, small, micro_tokens=5000, dropout=0.2)
        told = int(less.notes[-1].split("at most ")[1].split(" tokens")[0].replace(",", ""))
        steps = {note.split("at step ")[1].split(" ")[0] for note in less.notes}
        assert steps == {"1"}
        same = lora_fit(tiny_model, Sft(), micro_tokens=told, dropout=0.2)
        assert less.curve == same.curve
        for name, value in less.weights.items():
            assert torch.equal(value, same.weights[name])

    def test_when_one_row_is_too_much_the_way_out_is_named(self, tiny_model: Path) -> None:
        small = _Small(60)
        with pytest.raises(TrainingError, match=r"Memory ran out at step \d of 6") as error:
            lora_fit(tiny_model, small, micro_tokens=5000)
        assert "gradient_checkpointing" in error.value.fix
        assert "max_tokens" in error.value.fix

    def test_other_errors_are_not_taken_for_it(self, tiny_model: Path) -> None:
        with pytest.raises(RuntimeError, match="shapes"):
            lora_fit(tiny_model, _Small(10, RuntimeError("shapes do not match")))

    def test_an_interrupted_stage_remembers_it(self, tiny_model: Path, tmp_path: Path) -> None:
        """Or it would go on with other micro-batches, and other last bits."""

        def kill(step: StepReport) -> None:
            if step.step == 4:
                raise KeyboardInterrupt

        store = Checkpoints(tmp_path, "a")
        values: dict[str, Any] = {"micro_tokens": 5000, "dropout": 0.2}
        whole = lora_fit(tiny_model, _Small(400), **values)
        with pytest.raises(KeyboardInterrupt):
            lora_fit(
                tiny_model,
                _Small(400),
                checkpoint_every=3,
                checkpoints=store,
                report=kill,
                **values,
            )
        # memory is not short any more
        again = lora_fit(tiny_model, Sft(), checkpoint_every=3, checkpoints=store, **values)
        assert again.curve == whole.curve
        for name, value in again.weights.items():
            assert torch.equal(value, whole.weights[name])

    def test_the_reporter_hears_of_it_and_the_result_notes_it(
        self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[str] = []

        class Heard(Reporter):
            def say(self, text: str) -> None:
                said.append(text)

        small, loss = _Small(300), Sft.loss
        small.inner = type("Inner", (), {"loss": lambda self, *args: loss(Sft(), *args)})()
        monkeypatch.setattr(Sft, "loss", lambda self, *args: small.loss(*args))
        result = train_stage(
            model_name=str(tiny_model),
            base=None,
            instruction="",
            examples=uneven(16),
            wishes=Training(epochs=1, batch_size=8, precision="float32"),
            method="lora",
            seed=0,
            folder=tmp_path,
            reporter=Heard(),
        )
        told = [one for one in said if "Memory ran out at step 1" in one]
        assert told
        assert set(told) <= set(result.notes)


def test_a_checkpoint_is_never_of_a_loss_that_stands_high(tiny_model: Path, tmp_path: Path) -> None:
    """A spike at the very step that would be stored: the next good one is stored instead."""
    loaded = load(tiny_model)
    calls = 0

    def spike(loss: torch.Tensor, _: list[Item]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return loss * (40 if calls in (8, 9) else 1)

    def kill(step: StepReport) -> None:
        if step.step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(
            loaded.model,
            _Wrapped(spike),
            uneven_items(loaded.tokenizer, 12),
            config(epochs=6, checkpoint_every=4, micro_tokens=10**6),
            checkpoints=Checkpoints(tmp_path, "a"),
            report=kill,
        )
    kept = sorted(path.name[:12] for path in tmp_path.iterdir())
    assert kept == ["step-0000004", "step-0000010"]
    assert all(load_file(path / "state.safetensors") for path in tmp_path.iterdir())
