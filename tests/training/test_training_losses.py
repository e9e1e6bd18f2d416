"""The chunked loss against a plain one in float64."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from luthier.training.losses import LinearCrossEntropy, next_token_loss

N, WIDTH, VOCABULARY = 13, 8, 29


def inputs(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, WIDTH, generator=source, dtype=torch.float64)
    weight = torch.randn(VOCABULARY, WIDTH, generator=source, dtype=torch.float64)
    targets = torch.randint(VOCABULARY, (N,), generator=source)
    return hidden.to(dtype), weight.to(dtype), targets


def plain(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, after: Any = lambda x: x
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The reference in float64: loss / 7, and its gradients."""
    hidden = hidden.double().requires_grad_(True)
    weight = weight.double().requires_grad_(True)
    loss = functional.cross_entropy(after(hidden @ weight.T), targets, reduction="sum")
    (loss / 7).backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    return float(loss.detach()), hidden.grad, weight.grad


@pytest.mark.parametrize("chunk", [1, 3, 5, 13, 512])
def test_it_equals_the_plain_loss_in_any_chunks(chunk: int) -> None:
    hidden, weight, targets = inputs()
    loss, d_hidden, d_weight = plain(hidden, weight, targets)
    hidden.requires_grad_(True)
    weight.requires_grad_(True)
    got = LinearCrossEntropy.apply(hidden, weight, targets, chunk)
    assert got.dtype == torch.float32
    assert float(got.detach()) == pytest.approx(loss, rel=1e-6)
    (got / 7).backward()
    torch.testing.assert_close(hidden.grad.double(), d_hidden, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weight.grad.double(), d_weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trained", ["hidden", "weight"])
def test_only_the_gradients_asked_for_are_made(trained: str) -> None:
    hidden, weight, targets = inputs()
    _, d_hidden, d_weight = plain(hidden, weight, targets)
    one, other = (hidden, weight) if trained == "hidden" else (weight, hidden)
    one.requires_grad_(True)
    (LinearCrossEntropy.apply(hidden, weight, targets, 4) / 7).backward()
    wanted = d_hidden if trained == "hidden" else d_weight
    torch.testing.assert_close(one.grad.double(), wanted, rtol=1e-5, atol=1e-6)
    assert other.grad is None


def test_huge_scores_stay_finite() -> None:
    hidden, weight, targets = inputs()
    hidden = (hidden * 1e3).requires_grad_(True)
    loss, d_hidden, _ = plain(hidden.detach(), weight, targets)
    got = LinearCrossEntropy.apply(hidden, weight, targets, 4)
    assert float(got.detach()) == pytest.approx(loss, rel=1e-5)
    (got / 7).backward()
    torch.testing.assert_close(hidden.grad.double(), d_hidden, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_summed_in_float32() -> None:
    hidden, weight, targets = inputs(torch.bfloat16)
    loss, d_hidden, d_weight = plain(hidden, weight, targets)
    hidden.requires_grad_(True)
    weight.requires_grad_(True)
    got = LinearCrossEntropy.apply(hidden, weight, targets, 4)
    assert got.dtype == torch.float32
    assert float(got.detach()) == pytest.approx(loss, rel=0.01)
    (got / 7).backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.bfloat16
    # bfloat16 has 8 bits of precision
    torch.testing.assert_close(hidden.grad.double(), d_hidden, rtol=0.05, atol=0.02)
    torch.testing.assert_close(weight.grad.double(), d_weight, rtol=0.05, atol=0.02)


def model(head: torch.nn.Module, **settings: float) -> Any:
    """As much of a model as the loss looks at."""
    text = SimpleNamespace(**settings)
    return SimpleNamespace(
        get_output_embeddings=lambda: head,
        config=SimpleNamespace(get_text_config=lambda: text),
    )


def linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.nn.Linear:
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=bias is not None)
    head.weight = torch.nn.Parameter(weight.clone())
    if bias is not None:
        head.bias = torch.nn.Parameter(bias)
    return head


BIAS = torch.linspace(-1, 1, VOCABULARY)


@pytest.mark.parametrize("chunk", [4, 512])
@pytest.mark.parametrize(
    ("settings", "bias", "after"),
    [
        ({}, None, lambda x: x),
        ({}, BIAS, lambda x: x + BIAS),
        ({"final_logit_softcapping": 3.0}, None, lambda x: 3 * torch.tanh(x / 3)),
        ({"logit_scale": 0.25}, None, lambda x: x * 0.25),
        ({"logits_scaling": 8.0}, None, lambda x: x / 8),
    ],
    ids=["plain", "bias", "soft cap", "scale", "scaling"],
)
def test_heads_that_are_more_than_a_matrix(
    settings: dict[str, float], bias: torch.Tensor | None, after: Any, chunk: int
) -> None:
    hidden, weight, targets = inputs()
    loss, d_hidden, d_weight = plain(hidden, weight, targets, after)
    head = linear(weight, bias)
    hidden.requires_grad_(True)
    got = next_token_loss(model(head, **settings), hidden, targets, chunk)
    assert float(got.detach()) == pytest.approx(loss, rel=1e-6)
    (got / 7).backward()
    torch.testing.assert_close(hidden.grad.double(), d_hidden, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.weight.grad.double(), d_weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [None, BIAS], ids=["plain", "bias"])
def test_no_tokens_cost_nothing_and_can_still_go_backward(bias: torch.Tensor | None) -> None:
    hidden, weight, targets = inputs()
    hidden.requires_grad_(True)
    got = next_token_loss(model(linear(weight, bias)), hidden[:0], targets[:0])
    got.backward()
    assert float(got.detach()) == 0
    assert hidden.grad is None or not hidden.grad.any()
