from __future__ import annotations

import math

import pytest
import torch

from luthier.training.optimizer import MasterAdamW, learning_rate_at

SHAPES = {"matrix": (5, 3), "other": (2, 4, 3), "vector": (6,)}


def parameters(dtype: torch.dtype = torch.float32) -> dict[str, torch.nn.Parameter]:
    source = torch.Generator().manual_seed(1)
    return {
        name: torch.nn.Parameter(torch.randn(*shape, generator=source).to(dtype))
        for name, shape in SHAPES.items()
    }


def gradients(step: int) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(*shape, generator=source) for name, shape in SHAPES.items()}


def give(own: dict[str, torch.nn.Parameter], step: int) -> None:
    for name, gradient in gradients(step).items():
        own[name].grad = gradient.to(own[name].dtype)


def rate(step: int) -> float:
    return 0.01 * (step + 1)


def test_in_float32_it_is_adamw_with_decay_on_matrices_alone() -> None:
    mine, theirs = parameters(), parameters()
    optimizer = MasterAdamW(mine, weight_decay=0.1)
    reference = torch.optim.AdamW(
        [
            {"params": [theirs["matrix"], theirs["other"]], "weight_decay": 0.1},
            {"params": [theirs["vector"]], "weight_decay": 0.0},
        ],
        lr=1.0,
    )
    for step in range(12):
        give(mine, step)
        give(theirs, step)
        optimizer.collect()
        assert all(p.grad is None for p in mine.values())
        norm = optimizer.clip(2.0)
        wanted = torch.nn.utils.clip_grad_norm_(theirs.values(), 2.0)
        assert norm == pytest.approx(float(wanted), rel=1e-6)
        optimizer.step(rate(step))
        for group in reference.param_groups:
            group["lr"] = rate(step)
        reference.step()
        for name in SHAPES:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-6, atol=1e-7)


def test_gradients_of_micro_batches_add_up_in_float32() -> None:
    own = parameters(torch.bfloat16)
    optimizer = MasterAdamW(own)
    for step in range(5):
        give(own, step)
        optimizer.collect()
    for name, master in optimizer.masters.items():
        wanted = sum(gradients(step)[name].bfloat16().float() for step in range(5))
        assert master.grad is not None
        assert master.grad.dtype == torch.float32
        torch.testing.assert_close(master.grad, wanted)


def test_bfloat16_with_masters_follows_float32_where_bfloat16_alone_stands_still() -> None:
    exact, half, bare = parameters(), parameters(torch.bfloat16), parameters(torch.bfloat16)
    start = {name: p.detach().clone() for name, p in bare.items()}
    for name, p in exact.items():
        p.data = start[name].float()
    optimizers = [MasterAdamW(exact), MasterAdamW(half)]
    plain = torch.optim.AdamW(bare.values(), lr=1e-5, weight_decay=0.0)
    for _ in range(200):  # the same direction each time: Adam moves by the rate, 0.002 in all
        for own in (exact, half, bare):
            give(own, 0)
        for optimizer in optimizers:
            optimizer.collect()
            optimizer.step(1e-5)
        plain.step()
    for name in SHAPES:
        # the gradient itself was rounded, which Adam's normalisation nearly takes out again
        torch.testing.assert_close(
            optimizers[1].masters[name], optimizers[0].masters[name], rtol=0, atol=2e-5
        )
        assert torch.equal(half[name], optimizers[1].masters[name].bfloat16())
        large = start[name].abs() > 1
        assert torch.equal(bare[name][large], start[name][large])


def test_a_parameter_without_a_gradient_stays() -> None:
    own = parameters()
    optimizer = MasterAdamW(own, weight_decay=0.1)
    before = own["other"].detach().clone()
    own["matrix"].grad = torch.ones(5, 3)
    optimizer.collect()
    optimizer.step(0.1)
    assert torch.equal(own["other"], before)
    assert set(optimizer.state()) >= {"master.other", "adam.exp_avg.matrix"}
    assert "adam.exp_avg.other" not in optimizer.state()


def test_it_goes_on_from_its_state() -> None:
    own = parameters(torch.bfloat16)
    optimizer = MasterAdamW(own, weight_decay=0.1)
    saved: dict[str, torch.Tensor] = {}
    for step in range(6):
        if step == 3:
            saved = {name: value.clone() for name, value in optimizer.state().items()}
        give(own, step)
        optimizer.collect()
        optimizer.step(rate(step))
    other = parameters(torch.bfloat16)
    again = MasterAdamW(other, weight_decay=0.1)
    again.load(saved)
    for step in range(3, 6):
        give(other, step)
        again.collect()
        again.step(rate(step))
    for name in SHAPES:
        assert torch.equal(again.masters[name], optimizer.masters[name])
        assert torch.equal(other[name], own[name])


class TestSchedule:
    def test_it_rises_to_the_peak_and_falls_to_nearly_nothing(self) -> None:
        rates = [learning_rate_at(s, 100, peak=2.0, warmup=0.1) for s in range(100)]
        assert rates[0] == pytest.approx(0.2)
        assert rates[9] == rates[10] == 2.0
        assert rates[:10] == sorted(rates[:10])
        assert rates[10:] == sorted(rates[10:], reverse=True)
        assert rates[55] == pytest.approx(1.0)  # half way down
        assert rates[99] == pytest.approx(1 - math.cos(math.pi / 90), rel=1e-6)
        assert learning_rate_at(100, 100, peak=2.0, warmup=0.1) == pytest.approx(0, abs=1e-12)

    def test_without_warm_up_it_starts_at_the_peak(self) -> None:
        assert learning_rate_at(0, 10, peak=0.5, warmup=0.0) == 0.5

    @pytest.mark.parametrize("steps", [1, 2, 3])
    def test_every_step_of_a_short_run_moves(self, steps: int) -> None:
        for step in range(steps):
            assert 0 < learning_rate_at(step, steps, peak=1.0, warmup=0.1) <= 1
