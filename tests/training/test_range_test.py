"""The learning-rate range test: its rules on known curves, and the sweep on known problems."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from run_samples import luthier, write_task
from training_fakes import config, items, load

from luthier.errors import InputError
from luthier.rate_finding import find_rate
from luthier.training.objectives.sft import Sft
from luthier.training.range_test import growing, smooth, suggest, sweep
from luthier.training.training_error import TrainingError


class TestRules:
    @given(
        st.floats(1e-9, 1e-2),
        st.floats(1.5, 1e6),
        st.integers(2, 100),
    )
    def test_rates_grow_by_one_factor(self, lowest: float, span: float, steps: int) -> None:
        rates = growing(lowest, lowest * span, steps)
        assert len(rates) == steps
        assert rates[0] == lowest
        assert rates[-1] == pytest.approx(lowest * span)
        factors = [b / a for a, b in itertools.pairwise(rates)]
        assert factors == pytest.approx([span ** (1 / (steps - 1))] * (steps - 1))

    @pytest.mark.parametrize("wrong", [(1, 2, 1), (0, 1, 5), (2, 1, 5)])
    def test_rates_that_cannot_grow(self, wrong: tuple[float, float, int]) -> None:
        with pytest.raises(ValueError, match="lowest < highest"):
            growing(*wrong)

    def test_smoothing_by_hand(self) -> None:
        # m: 0.2 * 4 = 0.8, 0.8 * 0.8 + 0.2 * 2 = 1.04; divided by 0.2 and 0.36
        assert smooth([4.0, 2.0], past=0.8) == pytest.approx([4.0, 1.04 / 0.36])

    @given(st.floats(0.1, 100), st.integers(1, 60))
    def test_a_constant_loss_stays_itself(self, loss: float, steps: int) -> None:
        assert smooth([loss] * steps) == pytest.approx([loss] * steps)

    def test_the_steepest_fall_of_a_known_curve(self) -> None:
        # a logistic fall in the logarithm of the rate is steepest at its middle, 1e-4; it is lowest
        # at 1e-2, where the rise begins
        rates = growing(1e-6, 1e0, 61)
        losses = []
        for rate in rates:
            decade = math.log10(rate)
            fall = 3 - 2 / (1 + math.exp(-4 * (decade + 4)))
            losses.append(fall + max(0.0, decade + 2) * 5)
        steepest, minimum, suggested = suggest(rates, losses)
        assert steepest == pytest.approx(1e-4, rel=0.01)
        assert minimum == pytest.approx(1e-2, rel=0.01)
        assert suggested == steepest  # below a tenth of the minimum, 1e-3

    def test_a_tenth_of_the_minimum_where_that_is_lower(self) -> None:
        # falls ever faster, right up to the lowest point
        rates = growing(1e-5, 1e-1, 41)
        losses = [5 - (i / 30) ** 4 if i <= 30 else 4 + (i - 30) for i in range(41)]
        steepest, minimum, suggested = suggest(rates, losses)
        assert minimum == rates[30]
        assert steepest is not None
        assert steepest > rates[27]
        assert suggested == pytest.approx(minimum / 10)

    @pytest.mark.parametrize(
        "losses",
        [[2.0] * 20, [2.0 + i for i in range(20)], [2.0 - 0.001 * i for i in range(20)], [1.0]],
        ids=["flat", "rising", "noise", "one step"],
    )
    def test_nothing_is_suggested_where_nothing_fell(self, losses: list[float]) -> None:
        rates = growing(1e-6, 1e-1, 20)[: len(losses)]
        assert suggest(rates, losses) == (None, None, None)


class _Row:
    length = 1
    weight = 1

    def __init__(self, goal: float = 0.0) -> None:
        self.goal = goal


class _Bowl:
    """loss = curvature / 2 * (w - goal)^2, summed over the items."""

    def __init__(self, curvature: float = 1.0) -> None:
        self.curvature = curvature

    def sizes(self, rows: Any) -> list[int]:
        return [1 for _ in rows]

    def loss(self, model: Any, rows: Any) -> torch.Tensor:
        total = torch.zeros(())
        for row in rows:
            total = total + 0.5 * self.curvature * ((model.w - row.goal) ** 2).sum()
        return total


class _Point(torch.nn.Module):
    def __init__(self, at: float) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([at]))


class TestBowl:
    """A quadratic in one weight, where Adam's steps are known: while the gradient keeps its sign
    each is about as long as the rate."""

    RATES = growing(1e-4, 1e2, 61)

    def losses(self, at: float, curvature: float = 1.0, rates: list[float] | None = None) -> Any:
        settings = config(batch_size=1, max_grad_norm=1e12)
        return sweep(_Point(at), _Bowl(curvature), [_Row()], settings, rates or self.RATES)

    def test_it_is_what_adam_does(self) -> None:
        weight = torch.nn.Parameter(torch.tensor([3.0]))
        adam = torch.optim.AdamW([weight], lr=0.0, weight_decay=0.0)
        expected = []
        for rate in self.RATES:
            loss = 0.5 * (weight**2).sum()
            expected.append(float(loss.detach()))
            if smooth(expected)[-1] > 3 * min(smooth(expected)):
                break
            adam.zero_grad()
            loss.backward()
            adam.param_groups[0]["lr"] = rate
            adam.step()
        assert self.losses(3.0) == pytest.approx(expected, rel=1e-4)

    def test_the_minimum_is_where_the_steps_have_covered_the_way(self) -> None:
        # rates r, r q, r q^2 ... add up to about r_k q / (q - 1); they reach the weight's distance
        # from the bottom at r_k = distance (q - 1) / q
        factor = self.RATES[1] / self.RATES[0]
        for distance in (0.1, 1.0, 10.0):
            losses = self.losses(distance)
            lowest = self.RATES[losses.index(min(losses))]
            expected = distance * (factor - 1) / factor
            assert expected / factor**3 < lowest < expected * factor**3

    def test_the_suggestion_goes_with_the_distance_and_not_with_the_curvature(self) -> None:
        def suggested(distance: float, curvature: float) -> float:
            losses = self.losses(distance, curvature)
            found = suggest(self.RATES[: len(losses)], smooth(losses))[2]
            assert found is not None
            return found

        base = suggested(1.0, 1.0)
        assert suggested(1.0, 100.0) == pytest.approx(base)
        assert suggested(10.0, 1.0) == pytest.approx(10 * base, rel=1e-6)

    def test_it_stops_when_the_loss_is_far_above_its_lowest(self) -> None:
        losses = self.losses(1.0)
        assert len(losses) < len(self.RATES)
        assert smooth(losses)[-1] > 3 * min(smooth(losses))

    def test_it_stops_when_the_loss_is_not_finite(self) -> None:
        losses = self.losses(1.0, rates=[1e-3, 1e30, 1e30, 1e30])
        assert all(math.isfinite(loss) for loss in losses)
        assert len(losses) < 4

    def test_without_a_trained_token(self) -> None:
        row = _Row()
        row.weight = 0
        with pytest.raises(TrainingError, match="trained token"):
            sweep(_Point(1.0), _Bowl(), [row], config(), self.RATES)


class TestModel:
    def test_the_model_is_as_it_was_and_the_losses_are_the_same_again(
        self, tiny_model: Path
    ) -> None:
        loaded = load(tiny_model)
        rows = items(loaded.tokenizer, 12)
        before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
        rates = growing(1e-5, 1e-1, 20)
        first = sweep(loaded.model, Sft(), rows, config(), rates)
        for name, value in loaded.model.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert all(p.grad is None for p in loaded.model.parameters())
        assert not loaded.model.training
        assert sweep(loaded.model, Sft(), rows, config(), rates) == first
        assert min(first) < first[0]

    def test_micro_batches_change_nothing(self, tiny_model: Path) -> None:
        loaded = load(tiny_model)
        rows = items(loaded.tokenizer, 12)
        rates = growing(1e-5, 1e-2, 8)
        whole = sweep(loaded.model, Sft(), rows, config(micro_tokens=100_000), rates)
        single = sweep(loaded.model, Sft(), rows, config(micro_tokens=1), rates)
        assert single == pytest.approx(whole, rel=1e-4)


class TestTask:
    def task(self, folder: Path, model: Path, **changes: Any) -> Path:
        training = {"precision": "float32", "patience": 2, **changes.pop("training", {})}
        return write_task(folder, model, rows=90, training=training, **changes)

    def test_it_is_written_and_the_same_every_time(
        self, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = self.task(tmp_path, tiny_model)
        found = find_rate(task, out=tmp_path / "a")
        assert [p.name for p in (tmp_path / "a").iterdir()] == ["range_test.json"]
        assert json.loads((tmp_path / "a" / "range_test.json").read_text()) == found.to_dict()
        words = ("train", task, "--out", tmp_path / "b", "--find-rate", "--json")
        code, said, _ = luthier(capsys, *words)
        assert (code, json.loads(said)) == (0, found.to_dict())
        assert found.suggested is not None
        assert found.rates[0] < found.suggested < found.rates[-1]
        assert len(found.rates) == len(found.losses) == len(found.smoothed) <= 50

    def test_the_command_prints_a_rate_and_leaves_the_folder_free_for_training(
        self, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task, out = self.task(tmp_path, tiny_model), tmp_path / "stage"
        code, said, _ = luthier(capsys, "train", task, "--out", out, "--find-rate")
        found = json.loads((out / "range_test.json").read_text())
        assert code == 0
        assert f"training.learning_rate: {found['suggested']:.1e}" in said
        assert "steepest fall" in said
        code, _, _ = luthier(capsys, "train", task, "--out", out)
        assert code == 0
        assert (out / "train.json").is_file()

    def test_few_examples_are_told(self, tiny_model: Path, tmp_path: Path) -> None:
        task = write_task(tmp_path, tiny_model, rows=40)
        assert any("are few" in note for note in find_rate(task, out=tmp_path / "o").notes)

    def test_a_task_with_stages_is_refused(self, tiny_model: Path, tmp_path: Path) -> None:
        task = self.task(tmp_path, tiny_model, stages=[{"name": "one"}])
        with pytest.raises(InputError, match="one stage"):
            find_rate(task, out=tmp_path / "o")
