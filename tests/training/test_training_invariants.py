"""What must not matter: how a step is cut up, in what chunks a loss is computed, whether
activations are kept, in which of two precisions the model computes."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from training_fakes import config, load, uneven, uneven_items

from luthier.errors import InputError, ModelError
from luthier.models.adapters import add_lora
from luthier.progress import Reporter
from luthier.task import Task
from luthier.task_training import Training
from luthier.training.loop import Trained, fit
from luthier.training.losses import LinearCrossEntropy
from luthier.training.objectives import sft
from luthier.training.objectives.sft import Item, Sft, shared_prefix
from luthier.training.optimizer import MasterAdamW
from luthier.training.recompute import recomputes, recomputing
from luthier.training.stage import train_stage

LONG = "Say how many words the question has, in digits, and then say it again."


def prepared(folder: Path, method: str, *, dropout: float = 0.0, dtype: Any = None) -> Any:
    loaded = load(folder, dtype)
    if method == "full":
        return loaded
    torch.manual_seed(0)
    model = add_lora(loaded.model, rank=4, alpha=8, dropout=dropout, base="tiny")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, and then A would have no gradient
            torch.nn.init.normal_(parameter, std=0.05)
    return type(loaded)(model, loaded.tokenizer, loaded.name, loaded.path, loaded.context_length)


def trained(
    folder: Path, method: str, *, n: int = 24, instruction: str = "", **values: Any
) -> Trained:
    loaded = prepared(folder, method, dropout=values.get("dropout", 0.0))
    rows = uneven_items(loaded.tokenizer, n, instruction=instruction)
    return fit(loaded.model, Sft(), rows, config(**values))


def assert_same(one: Trained, other: Trained, *, loss: float = 1e-6, weights: float = 1e-4) -> None:
    """Equal up to the order of float32 additions, which Adam enlarges where a gradient is tiny."""
    assert [s for s, _ in one.curve] == [s for s, _ in other.curve]
    for (_, a), (_, b) in zip(one.curve, other.curve, strict=True):
        assert a == pytest.approx(b, rel=loss)
    for name, value in one.weights.items():
        torch.testing.assert_close(value, other.weights[name], rtol=weights, atol=weights / 10)


@pytest.mark.parametrize("method", ["full", "lora"])
class TestHowAStepIsCutUp:
    @pytest.mark.parametrize("instruction", ["", LONG], ids=["nothing shared", "shared"])
    def test_one_batch_of_eight_is_eight_of_one(
        self, tiny_model: Path, method: str, instruction: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Batch 8 x accumulation 1 = 1 x 8, and so for rows alone, sorted into micro-batches of
        similar length, or padded to the longest of the step."""
        monkeypatch.setattr(sft, "PAYS", 1)
        parts: list[int] = []
        loss = Sft.loss

        def counted(self: Sft, model: Any, items: list[Item]) -> torch.Tensor:
            parts.append(len(items))
            return loss(self, model, items)

        monkeypatch.setattr(Sft, "loss", counted)
        results = []
        for micro in (1, 400, 10**6):
            results.append(
                trained(
                    tiny_model, method, instruction=instruction, batch_size=8, micro_tokens=micro
                )
            )
        assert set(parts[:24]) == {1}
        assert set(parts[-3:]) == {8}
        assert len(set(parts[24:-3])) > 1
        for other in results[1:]:
            assert_same(results[0], other)

    def test_a_row_learns_the_same_beside_longer_ones(self, tiny_model: Path, method: str) -> None:
        """A row beside one that is longer and carries almost no loss: padding reaches nothing."""
        loaded = prepared(tiny_model, method)
        short = uneven_items(loaded.tokenizer, 3)[0]
        alone = gradients(loaded.model, [short])
        for width in (short.length + 1, 100, 300):
            other = Item([7] * width, [-100] * width)
            beside = gradients(loaded.model, [short, other])
            assert beside[0] == pytest.approx(alone[0], rel=1e-6)
            for name, gradient in alone[1].items():
                scale = float(gradient.abs().max())
                torch.testing.assert_close(
                    beside[1][name], gradient, rtol=1e-4, atol=1e-6 * max(scale, 1.0)
                )


def gradients(model: Any, rows: list[Item]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    loss = Sft().loss(model, rows)
    loss.backward()
    held = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), held


@settings(max_examples=120, deadline=None)
@given(
    n=st.integers(1, 40),
    width=st.integers(1, 12),
    words=st.integers(2, 60),
    chunk=st.integers(1, 45),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    divisor=st.integers(1, 1000),
    seed=st.integers(0, 10**6),
)
def test_the_chunked_loss_is_the_float64_one(
    n: int, width: int, words: int, chunk: int, scale: float, divisor: int, seed: int
) -> None:
    source = torch.Generator().manual_seed(seed)
    hidden = scale * torch.randn(n, width, generator=source, dtype=torch.float64)
    weight = torch.randn(words, width, generator=source, dtype=torch.float64)
    targets = torch.randint(words, (n,), generator=source)
    exact = [hidden.clone().requires_grad_(True), weight.clone().requires_grad_(True)]
    wanted = functional.cross_entropy(exact[0] @ exact[1].T, targets, reduction="sum")
    (wanted / divisor).backward()
    ours = [hidden.float().requires_grad_(True), weight.float().requires_grad_(True)]
    got = LinearCrossEntropy.apply(ours[0], ours[1], targets, chunk)
    (got / divisor).backward()
    # float32 has 24 bits; scores of size 100 leave 1e-5 of a nat
    assert float(got.detach()) == pytest.approx(
        float(wanted.detach()), rel=1e-5, abs=2e-5 * n * scale
    )
    for mine, theirs in zip(ours, exact, strict=True):
        largest = float(theirs.grad.abs().max())
        torch.testing.assert_close(
            mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-5 * max(1.0, largest, scale)
        )


class TestBfloat16:
    """The loss curve in bfloat16 with float32 masters stays within 2 % of float32's over 80 steps
    at a small rate; without masters, where updates below half a unit in the last place vanish, it
    does not."""

    def curve(self, tiny_model: Path, dtype: torch.dtype, rate: float = 3e-4) -> list[float]:
        loaded = load(tiny_model, dtype)
        rows = uneven_items(loaded.tokenizer, 32)
        settings = config(epochs=10, batch_size=4, learning_rate=rate, warmup=0.0)
        return [loss for _, loss in fit(loaded.model, Sft(), rows, settings).curve]

    def test_it_follows_float32_and_without_masters_it_does_not(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exact = self.curve(tiny_model, torch.float32)
        half = self.curve(tiny_model, torch.bfloat16)
        assert len(exact) == 80
        assert exact[-1] < 0.6 * exact[0]
        step = MasterAdamW.step

        def without_masters(self: MasterAdamW, *args: Any, **kwargs: Any) -> Any:
            done = step(self, *args, **kwargs)
            with torch.no_grad():  # the same Adam, its weights held in bfloat16
                for master in self.masters.values():
                    master.copy_(master.bfloat16())
            return done

        monkeypatch.setattr(MasterAdamW, "step", without_masters)
        bare = self.curve(tiny_model, torch.bfloat16)
        off = [abs(h - e) / e for h, e in zip(half, exact, strict=True)]
        off_bare = [abs(b - e) / e for b, e in zip(bare, exact, strict=True)]
        assert max(off) < 0.02, max(off)
        assert max(off_bare) > 0.2, max(off_bare)


class _Counted:
    """The objective, with the bytes that its forward passes keep for the backward pass."""

    def __init__(self) -> None:
        self.kept = 0
        self.inner = Sft()

    def sizes(self, items: Any) -> list[int]:
        return self.inner.sizes(items)

    def loss(self, model: Any, items: Any) -> torch.Tensor:
        def keep(tensor: torch.Tensor) -> torch.Tensor:
            self.kept += tensor.numel() * tensor.element_size()
            return tensor

        before = _held()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self.inner.loss(model, items)
        # layers that are written out keep their tensors as Python objects, which no hook sees
        self.kept += _held() - before
        return loss


def _held() -> int:
    """Bytes of all tensors that Python holds."""
    return sum(
        one.numel() * one.element_size() for one in gc.get_objects() if type(one) is torch.Tensor
    )


class TestGradientCheckpointing:
    @pytest.mark.parametrize("fused", [False, True])
    @pytest.mark.parametrize(("method", "dropout"), [("full", 0.0), ("lora", 0.0), ("lora", 0.3)])
    def test_it_changes_nothing_but_memory(
        self, tiny_model: Path, method: str, dropout: float, fused: bool
    ) -> None:
        results, kept = [], []
        for wanted in (False, True):
            loaded = prepared(tiny_model, method, dropout=dropout)
            counted = _Counted()
            rows = uneven_items(loaded.tokenizer, 8)
            values = config(epochs=2, gradient_checkpointing=wanted, fused=fused)
            results.append(fit(loaded.model, counted, rows, values))
            kept.append(counted.kept)
            assert not recomputes(loaded.model)  # left as it was found
        assert results[0].curve == results[1].curve
        for name, value in results[0].weights.items():
            assert torch.equal(value, results[1].weights[name])
        assert kept[1] < kept[0] / 2

    def test_a_shared_beginning_is_read_in_every_row(
        self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Layers that are computed again keep no keys and values for others to attend to."""
        monkeypatch.setattr(sft, "PAYS", 1)
        loaded = load(tiny_model)
        assert shared_prefix(uneven_items(loaded.tokenizer, 8, instruction=LONG)) > 0
        values: dict[str, Any] = {"n": 12, "instruction": LONG, "fused": False}
        plain = trained(tiny_model, "lora", **values)
        less = trained(tiny_model, "lora", gradient_checkpointing=True, **values)
        assert_same(plain, less)

    @pytest.mark.parametrize("method", ["lora", "full"])
    def test_a_task_can_ask_for_it(self, tiny_model: Path, tmp_path: Path, method: str) -> None:
        files = []
        for wanted in (False, True):
            wishes = Training(
                epochs=1, batch_size=4, precision="float32", gradient_checkpointing=wanted
            )
            result = train_stage(
                model_name=str(tiny_model),
                base=None,
                instruction="Count.",
                examples=uneven(12),
                wishes=wishes,
                method=method,
                seed=0,
                folder=tmp_path / str(wanted),
                reporter=Reporter(),
            )
            assert result.config["gradient_checkpointing"] is wanted
            file = "adapter_model" if method == "lora" else "model"
            files.append((tmp_path / str(wanted) / "model" / f"{file}.safetensors").read_bytes())
        assert files[0] == files[1]

    def test_other_keys_still_take_no_truth_value(self) -> None:
        values = {"name": "a", "kind": "chat", "data": {"train": "x.csv", "messages": "m"}}
        task = Task.from_dict({**values, "training": {"gradient_checkpointing": True}})
        assert task.training.gradient_checkpointing
        with pytest.raises(InputError, match="epochs"):
            Task.from_dict({**values, "training": {"epochs": True}})
        with pytest.raises(InputError, match="gradient_checkpointing"):
            Task.from_dict({**values, "training": {"gradient_checkpointing": "sometimes"}})

    def test_a_model_that_cannot_is_refused(self, tiny_model: Path) -> None:
        model = load(tiny_model).model
        type(model).supports_gradient_checkpointing, before = (
            False,
            type(model).supports_gradient_checkpointing,
        )
        try:
            with (
                pytest.raises(ModelError, match="gradient checkpointing"),
                recomputing(model, True),
            ):
                pass
        finally:
            type(model).supports_gradient_checkpointing = before


def test_every_step_is_an_event(tiny_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Through the command line: loss, rate, norm, tokens and speed of each step, once, and the
    tokens add up to train.json's."""
    import csv

    from luthier.cli import main

    with (tmp_path / "train.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", "answer"])
        table.writerows([e.input, e.output] for e in uneven(60))
    task = {
        "name": "count",
        "kind": "generation",
        "data": {"train": "train.csv", "input": "{{ question }}", "output": "{{ answer }}"},
        "model": str(tiny_model),
        "training": {"epochs": 1, "batch_size": 4, "evaluate_every": 3},
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["luthier", "train", str(tmp_path), "--out", str(out)])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    held = json.loads((out / "train.json").read_text())
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, held["steps"] + 1))
    assert [[e["step"], e["loss"]] for e in steps] == held["curve"]
    assert steps[-1]["tokens"] == held["tokens"]
    assert all(e["grad_norm"] > 0 and e["tokens_per_second"] > 0 for e in steps)
    rates = [e["learning_rate"] for e in steps]
    assert max(rates) == held["config"]["learning_rate"]
    assert rates[-1] < max(rates) / 5
    looks = [[e["step"], e["loss"]] for e in events if e["event"] == "validation"]
    assert looks == held["validation"]
    assert [step for step, _ in looks] == [*range(3, held["steps"], 3), held["steps"]]
