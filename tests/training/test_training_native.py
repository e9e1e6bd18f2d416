"""The compiled functions against float64, and layers that run by them against those that do not."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from luthier.training import losses, optimizer
from luthier.training.fused import model as fused_model
from luthier.training.fused import native as native_module
from luthier.training.fused import on_cpu_native
from luthier.training.fused.native import Native, native
from luthier.training.fused.on_cpu import OnCpu
from luthier.training.fused.on_cpu_native import OnCpuNative
from luthier.training.loop import fit
from luthier.training.objectives.sft import Sft
from tests.training.test_training_fused import model_of, passes
from tests.training.training_fakes import config, items, load

pytestmark = pytest.mark.skipif(
    "LUTHIER_NATIVE" in os.environ or not any(map(shutil.which, ("cc", "gcc", "clang"))),
    reason="no C compiler here, or not wanted",
)
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(scope="module")
def compiled() -> Native:
    found = native()
    assert found is not None
    return found


def draw(*shape: int, dtype: torch.dtype, seed: int = 0, spread: float = 1.0) -> Tensor:
    numbers = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=numbers) * spread).to(dtype)


def near(found: Tensor, wanted: Tensor) -> None:
    """As near as float32 sums, rounded to the precision of `found`, allow."""
    step = 2.0**-8 if found.dtype == torch.bfloat16 else 2.0**-20
    bound = step * wanted.abs() + step * 0.2 * wanted.abs().max() + 1e-30
    assert bool(((found.double() - wanted).abs() <= bound).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 31, 48, 130])
def test_the_norm_and_its_gradients(compiled: Native, dtype: torch.dtype, width: int) -> None:
    run = OnCpuNative(compiled)
    x, d_y = draw(9, width, dtype=dtype), draw(9, width + 3, dtype=dtype, seed=1)[:, :width]
    weight, more = draw(width, dtype=dtype, seed=2), draw(9, width, dtype=dtype, seed=3)
    exact, own = (one.double().requires_grad_() for one in (x, weight))
    wanted = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + 1e-5) * own
    wanted.backward(d_y.double())
    out = x.new_full((9, width + 5), 7.0)
    scale = run.norm(out, x, weight, 1e-5)
    near(out[:, :width], wanted.detach())
    assert bool((out[:, width:] == 7).all())
    weight.requires_grad_()
    d_x, d_weight = run.norm_backward(d_y, x, weight, scale, added_to=more)
    assert exact.grad is not None and own.grad is not None and d_weight is not None
    near(d_x, exact.grad + more.double())
    near(d_weight, own.grad)
    assert run.norm_backward(d_y, x, weight.detach(), scale, added_to=more)[1] is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gate_and_its_gradients(compiled: Native, dtype: torch.dtype) -> None:
    run = OnCpuNative(compiled)
    gate_up, d_act = draw(5, 2 * 37, dtype=dtype, spread=6), draw(5, 37, dtype=dtype, seed=1)
    gate_up[0, :4] = torch.tensor([-200.0, 200.0, 0.0, -88.0])
    exact = gate_up.double().requires_grad_()
    wanted = functional.silu(exact[:, :37]) * exact[:, 37:]
    wanted.backward(d_act.double())
    first, again = (gate_up.new_empty(5, 40) for _ in range(2))
    run.gate(gate_up, first)
    near(first[:, :37], wanted.detach())
    d_gate_up = run.gate_backward(gate_up, d_act, again)
    assert torch.equal(again[:, :37], first[:, :37])
    assert exact.grad is not None
    near(d_gate_up, exact.grad)


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    groups=st.integers(1, 3),
    length=st.integers(1, 40),
    before=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_the_softmax_of_what_a_query_sees(
    dtype: torch.dtype, groups: int, length: int, before: int, seed: int
) -> None:
    compiled = native()
    assert compiled is not None
    keys = length + before + -(length + before) % 16
    scores = draw(2, length * groups, keys, dtype=dtype, seed=seed, spread=30)
    d_p = draw(2, length * groups, keys, dtype=dtype, seed=seed + 100)
    sees = torch.ones(length, keys, dtype=torch.bool).tril(keys - length)
    hidden = ~sees.repeat_interleave(groups, 0)
    exact = scores.double().requires_grad_()
    wanted = torch.softmax((exact * 0.3).masked_fill(hidden, -math.inf), -1)
    p = scores.clone()
    compiled("softmax", dtype, 2, length, groups, keys, 0.3, p)
    assert bool((p[:, hidden] == 0).all())
    bound = 2.0**-8 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(p.double(), wanted.detach(), rtol=bound, atol=1e-30 + 1e-37)
    # the gradient of the probabilities as they were rounded
    rounded = p.double()
    gradient = 0.3 * rounded * (d_p.double() - (rounded * d_p.double()).sum(-1, keepdim=True))
    d_s = d_p.clone()
    compiled("softmax_backward", dtype, 2, length, groups, keys, 0.3, p, d_s)
    assert bool((d_s[:, hidden] == 0).all())
    torch.testing.assert_close(d_s.double(), gradient, rtol=2 * bound, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loss_over_a_vocabulary(compiled: Native, dtype: torch.dtype) -> None:
    run = OnCpuNative(compiled)
    scores = draw(6, 5003, dtype=dtype, spread=5)
    goals = torch.tensor([0, 5002, 17, 17, 1, 2])[:, None]
    scores[4, 1], scores[5] = -300.0, 0.0  # all but impossible; all alike
    exact = scores.double().requires_grad_()
    wanted = functional.cross_entropy(exact, goals[:, 0], reduction="sum")
    wanted.backward()
    assert float(run.loss(scores, goals)) == pytest.approx(float(wanted), rel=1e-6)
    assert exact.grad is not None
    near(scores, exact.grad)
    with pytest.raises(IndexError, match="5003"):
        run.loss(scores, goals + 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_not_hidden(compiled: Native, dtype: torch.dtype, bad: float) -> None:
    run = OnCpuNative(compiled)
    row = draw(1, 64, dtype=dtype)
    row[0, 40] = bad
    out = torch.empty_like(row)
    run.norm(out, row, torch.ones(64, dtype=dtype), 1e-5)
    assert not bool(out.isfinite().all())
    assert not math.isfinite(float(run.loss(row.clone(), torch.zeros(1, 1, dtype=torch.int64))))
    scores = row.clone()[None].expand(1, 1, 64).contiguous()
    compiled("softmax", dtype, 1, 1, 1, 64, 1.0, scores)
    assert bool(scores.isnan().any())
    gate = torch.empty(1, 32, dtype=dtype)
    run.gate(row, gate)
    assert not bool(gate.isfinite().all())


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("prefix", [0, 5, 16])
def test_layers_without_a_compiler_compute_the_same(
    lora: bool, tied: bool, prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def model() -> Any:
        made = model_of("qwen2", lora=lora)
        if tied:
            made.get_output_embeddings().weight = made.get_input_embeddings().weight
        return made

    hidden, found = passes(model(), prefix, fast=True)
    monkeypatch.setattr(fused_model, "kernels_for", lambda *_: OnCpu())
    wanted, gradients = passes(model(), prefix, fast=True)
    torch.testing.assert_close(hidden, wanted, rtol=1e-4, atol=2e-5)
    assert found.keys() == gradients.keys()
    for name, one in gradients.items():
        theirs, ours = (g.to_dense() if g.is_sparse else g for g in (one, found[name]))
        least = 1e-4 if "k_proj.bias" in name else 2e-5 * float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=least)


@pytest.mark.parametrize("prefix", [0, 5, 16, 40])
@pytest.mark.parametrize("kept", [0, 1000])
def test_rows_of_several_blocks(prefix: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, gradients = passes(model_of("llama", lora=True), prefix, fast=False)
    monkeypatch.setattr(on_cpu_native, "BLOCK", 16)
    monkeypatch.setattr(on_cpu_native, "_KEPT", kept)
    hidden, found = passes(model_of("llama", lora=True), prefix, fast=True)
    torch.testing.assert_close(hidden, wanted, rtol=1e-4, atol=2e-5)
    for name, one in gradients.items():
        least = 2e-5 * float(one.abs().max())
        torch.testing.assert_close(found[name], one, rtol=1e-3, atol=least)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_optimiser_s_one_pass_is_torch_s(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contiguous parameters and rows of a wider matrix; several micro-batches in every other
    step."""

    def of(with_native: bool) -> tuple[optimizer.MasterAdamW, list[float]]:
        if not with_native:
            monkeypatch.setattr(optimizer, "native", lambda: None)
        whole = draw(70, 100, dtype=dtype)
        own = {
            "a": torch.nn.Parameter(draw(9000, dtype=dtype, seed=1)),
            "b": torch.nn.Parameter(whole[:, 3:80]),
            "c": torch.nn.Parameter(draw(4, 5, 6, dtype=dtype, seed=2)),
        }
        made = optimizer.MasterAdamW(own, weight_decay=0.1)
        norms = []
        for step in range(6):
            for part in range(1 + step % 2):
                for number, parameter in enumerate(own.values()):
                    seed = 100 * step + 10 * part + number
                    parameter.grad = draw(*parameter.shape, dtype=dtype, seed=seed)
                made.collect()
            norms.append(made.clip(1.0))
            made.step(0.01 / (step + 1))
        assert not whole[:, :3].equal(whole[:, 3:6])
        return made, norms

    (ours, found), (theirs, wanted) = of(True), of(False)
    assert found == pytest.approx(wanted, rel=1e-6)
    for name, master in theirs.masters.items():
        torch.testing.assert_close(ours.masters[name], master, rtol=2e-6, atol=1e-7)
        assert torch.equal(ours.parameters[name], ours.masters[name].to(dtype))
    before, after = theirs.state(), ours.state()
    assert before.keys() == after.keys()
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, rtol=1e-5, atol=1e-7)


def test_training_is_the_same_without_a_compiler(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> Any:
        loaded = load(tiny_model)
        rows = items(loaded.tokenizer, 12)
        settings = config(learning_rate=1e-2, epochs=3, micro_tokens=120)
        return fit(loaded.model, Sft(), rows, settings)

    first = trained()
    for module in (optimizer, losses):
        monkeypatch.setattr(module, "native", lambda: None)
    monkeypatch.setattr(fused_model, "kernels_for", lambda *_: OnCpu())
    second = trained()
    assert first.steps == second.steps == 9
    for (_, ours), (_, theirs) in zip(first.curve, second.curve, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.fixture()
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Look for the functions again, in an empty cache."""
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path))
    native.cache_clear()
    yield native
    native.cache_clear()


def test_it_is_compiled_once_and_kept(
    anew: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert anew() is not None
    (made,) = (tmp_path / "native").iterdir()
    written = made.stat().st_mtime_ns
    anew.cache_clear()
    assert anew() is not None
    assert made.stat().st_mtime_ns == written
    # another processor gets a file of its own
    monkeypatch.setattr(native_module, "_processor", lambda: "another")
    anew.cache_clear()
    assert anew() is not None
    assert len(list((tmp_path / "native").iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "value"), [("LUTHIER_NATIVE", "off"), ("CC", "false"), ("CC", "no-such-compiler")]
)
def test_without_it_nothing_fails(
    anew: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert anew() is None


def test_a_damaged_file_is_no_reason_to_stop(anew: Any, tmp_path: Path) -> None:
    assert anew() is not None
    (made,) = (tmp_path / "native").iterdir()
    made.unlink()  # not written over: it is in use
    made.write_bytes(b"not a library")
    anew.cache_clear()
    assert anew() is not None
