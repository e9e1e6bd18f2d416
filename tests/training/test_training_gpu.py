"""Training on a GPU against the CPU and against the modules; skipped where there is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from luthier.models import adapters
from luthier.models.heads import body
from luthier.training.fused.model import fused, fusing

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

LENGTHS = [37, 5, 64, 1, 20]


def model_of(dtype: torch.dtype, *, lora: bool) -> Any:
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=211,
        hidden_size=256,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        initializer_range=0.1,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    if lora:
        model = adapters.add_lora(model, rank=8, alpha=16, dropout=0.0, base="base")
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.1)
    return model.to("cuda")


def gradients(model: Any, fast: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    numbers = torch.Generator().manual_seed(1)
    longest = max(LENGTHS)
    ids = torch.randint(0, 211, (len(LENGTHS), longest), generator=numbers).to("cuda")
    real = (torch.arange(longest) < torch.tensor(LENGTHS)[:, None]).to("cuda")
    weights = torch.randn(256, generator=numbers).to("cuda")
    if fast:
        with fusing(model, True) as done:
            assert done
            run = fused(model)
            assert run is not None
            hidden = run(
                None, ids[real], LENGTHS, torch.ones(int(real.sum()), dtype=torch.bool).to("cuda")
            )
            (hidden.float() * weights).sum().backward()
    else:
        hidden = body(model)(input_ids=ids, use_cache=False).last_hidden_state[real]
        (hidden.float() * weights).sum().backward()
    held = {n: p.grad.to_dense().float() for n, p in model.named_parameters() if p.grad is not None}
    for parameter in model.parameters():
        parameter.grad = None
    return hidden.detach().float(), held


@pytest.mark.parametrize("lora", [True, False])
def test_in_float32_the_layers_are_the_modules(lora: bool) -> None:
    model = model_of(torch.float32, lora=lora)
    wanted, expected = gradients(model, fast=False)
    hidden, held = gradients(model, fast=True)
    torch.testing.assert_close(hidden, wanted, rtol=1e-3, atol=1e-4)
    assert held.keys() == expected.keys()
    for name, one in held.items():
        largest = float(expected[name].abs().max())
        torch.testing.assert_close(one, expected[name], rtol=1e-3, atol=1e-4 * largest + 1e-7)


@pytest.mark.parametrize("lora", [True, False])
def test_in_bfloat16_they_are_as_near_to_float32_as_the_modules(lora: bool) -> None:
    exact, expected = gradients(model_of(torch.float32, lora=lora), fast=False)
    narrow = model_of(torch.bfloat16, lora=lora)
    theirs, their_gradients = gradients(narrow, fast=False)
    ours, our_gradients = gradients(narrow, fast=True)
    assert float((ours - exact).norm()) <= 1.2 * float((theirs - exact).norm())
    for name, one in our_gradients.items():
        wanted = expected[name]
        off = float((one - wanted).norm())
        assert off <= 1.5 * float((their_gradients[name] - wanted).norm()) + 1e-3 * float(
            wanted.norm()
        ), name


def test_the_loss_and_its_gradient() -> None:
    from luthier.training.losses import LinearCrossEntropy

    numbers = torch.Generator().manual_seed(2)
    hidden = torch.randn(700, 64, generator=numbers)
    weight = torch.randn(5000, 64, generator=numbers) * 0.2
    goals = torch.randint(0, 5000, (700,), generator=numbers)
    exact = [one.double().requires_grad_() for one in (hidden, weight)]
    loss = torch.nn.functional.cross_entropy(exact[0] @ exact[1].T, goals, reduction="sum")
    loss.backward()
    ours = [one.to("cuda").requires_grad_() for one in (hidden, weight)]
    found = LinearCrossEntropy.apply(*ours, goals.to("cuda"), 512)
    found.backward()
    assert float(found.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
    for one, wanted in zip(ours, exact, strict=True):
        assert one.grad is not None and wanted.grad is not None
        torch.testing.assert_close(one.grad.cpu().double(), wanted.grad, rtol=1e-3, atol=1e-4)


def test_an_update_is_that_of_the_cpu() -> None:
    from luthier.training.optimizer import MasterAdamW

    numbers = torch.Generator().manual_seed(3)
    start = {"a": torch.randn(40, 30, generator=numbers), "b": torch.randn(9, generator=numbers)}
    steps = [{n: torch.randn(v.shape, generator=numbers) for n, v in start.items()} for _ in "123"]
    found = {}
    for device in ("cpu", "cuda"):
        held = {n: torch.nn.Parameter(v.clone().to(device)) for n, v in start.items()}
        adam = MasterAdamW(held, weight_decay=0.1)
        for index, step in enumerate(steps):
            for _ in range(1 + index % 2):  # one micro-batch, and two
                for name, gradient in step.items():
                    held[name].grad = gradient.clone().to(device)
                adam.collect()
            adam.clip(1.0)
            adam.step(1e-2)
        found[device] = {n: p.detach().cpu() for n, p in held.items()}
    for name, one in found["cuda"].items():
        torch.testing.assert_close(one, found["cpu"][name], rtol=1e-5, atol=1e-6)
