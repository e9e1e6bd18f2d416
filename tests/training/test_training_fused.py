"""The hand-written layers against the modules they stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.models import adapters
from luthier.models.heads import body
from luthier.training.fused import attention
from luthier.training.fused.attention import attend, attend_backward
from luthier.training.fused.model import fuse, fused, fusing, release
from luthier.training.prefix import after_prefix

VOCABULARY = 97


def model_of(family: str, *, lora: bool, layers: int = 2) -> Any:
    """A small random model; its adapters, if it has any, are not at their start."""
    import transformers as hf

    torch.manual_seed(0)
    kind: Any = {"llama": hf.LlamaConfig, "mistral": hf.MistralConfig, "qwen2": hf.Qwen2Config}
    wanted = {"sliding_window": None} if family == "mistral" else {}
    config = kind[family](
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=layers,
        num_attention_heads=6,
        num_key_value_heads=2,
        initializer_range=0.2,
        attn_implementation="eager",
        **wanted,
    )
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    if lora:
        model = adapters.add_lora(model, rank=4, alpha=8, dropout=0.0, base="base")
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.2)
    return model


def passes(model: Any, prefix: int, *, fast: bool, recompute: bool = False) -> tuple[Any, Any]:
    """Hidden states of some tokens of rows of several lengths, and the gradients of a weighted sum
    of them. The modules see padding, the hand-written layers none."""
    numbers = torch.Generator().manual_seed(3)
    lengths = [13, 20, 20, 1]
    ids = torch.randint(0, VOCABULARY, (4, 20), generator=numbers)
    real = torch.arange(20) < torch.tensor(lengths)[:, None]
    chosen = (torch.rand(4, 20, generator=numbers) < 0.5) & real
    weights = torch.randn(48, generator=numbers)
    start = torch.arange(prefix) + 3
    if fast:
        with fusing(model, True, recompute=recompute) as done:
            assert done
            run = fused(model)
            assert run is not None
            hidden = run(start if prefix else None, ids[real], lengths, chosen[real])
            (hidden * weights).sum().backward()
    else:
        if prefix:
            hidden = after_prefix(body(model), start[None], ids)[chosen]
        else:
            hidden = body(model)(input_ids=ids, use_cache=False).last_hidden_state[chosen]
        (hidden * weights).sum().backward()
    named = model.named_parameters()
    return hidden.detach(), {n: p.grad for n, p in named if p.requires_grad and p.grad is not None}


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize(
    ("prefix", "recompute", "block"), [(0, False, 512), (5, False, 512), (5, True, 7), (0, True, 7)]
)
def test_hidden_states_and_gradients_are_those_of_the_modules(
    family: str,
    lora: bool,
    prefix: int,
    recompute: bool,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    hidden, gradients = passes(model_of(family, lora=lora), prefix, fast=False)
    ours, found = passes(model_of(family, lora=lora), prefix, fast=True, recompute=recompute)
    torch.testing.assert_close(ours, hidden, rtol=1e-4, atol=2e-5)
    assert found.keys() == gradients.keys()
    for name, wanted in gradients.items():
        # keys' biases move every score of a query alike: their gradient is rounding alone
        least = 1e-4 if "k_proj.bias" in name else 2e-5 * float(wanted.abs().max())
        torch.testing.assert_close(found[name], wanted, rtol=1e-3, atol=least)


def test_bfloat16_stays_as_near_to_float32_as_the_modules_do() -> None:
    exact, _ = passes(model_of("llama", lora=True), 5, fast=False)
    theirs, _ = passes(model_of("llama", lora=True).bfloat16(), 5, fast=False)
    ours, _ = passes(model_of("llama", lora=True).bfloat16(), 5, fast=True)
    assert float((ours - exact).norm()) < 1.2 * float((theirs - exact).norm())


def test_weights_keep_their_values_and_get_their_storage_back() -> None:
    model = model_of("llama", lora=True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert fuse(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    # the modules can still be run while their weights are joined
    ids = torch.arange(12)[None]
    joined = model(input_ids=ids).logits
    release(model)
    assert fused(model) is None
    assert torch.equal(model(input_ids=ids).logits, joined)
    stored = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert len(stored) == len(list(model.parameters()))
    assert all(p.is_contiguous() for p in model.parameters())


def test_an_update_of_the_adapter_is_seen_at_once() -> None:
    model, other = model_of("llama", lora=True), model_of("llama", lora=True)
    ids, chosen = torch.arange(12), torch.ones(12, dtype=torch.bool)
    assert fuse(model)
    with torch.no_grad():
        for one in (model, other):
            for name, parameter in one.named_parameters():
                if "lora_" in name:
                    parameter.copy_(parameter * 0.5 + 0.01)
        run = fused(model)
        assert run is not None
        hidden = run(None, ids, [12], chosen)
        wanted = body(other)(input_ids=ids[None]).last_hidden_state[0]
    torch.testing.assert_close(hidden, wanted, rtol=1e-4, atol=2e-5)


def test_nothing_is_kept_below_the_lowest_trained_layer() -> None:
    model = model_of("llama", lora=False, layers=3)
    model.requires_grad_(False)
    for parameter in body(model).layers[2].parameters():
        parameter.requires_grad_(True)
    _, wanted = passes(model, 0, fast=False)
    model.zero_grad()
    with fusing(model, True):
        run = fused(model)
        assert run is not None
        hidden = run(None, torch.arange(12), [12], torch.ones(12, dtype=torch.bool))
        seen, nodes = set(), [hidden.grad_fn]
        while nodes:
            node = nodes.pop()
            if node is not None and node not in seen:
                seen.add(node)
                nodes += [before for before, _ in node.next_functions]
    assert sum("_LayerFunction" in type(node).__name__ for node in seen) == 1
    _, found = passes(model, 0, fast=True)
    assert found.keys() == wanted.keys()


@pytest.mark.parametrize(
    "what", ["dropout", "dora", "window", "another family", "another activation"]
)
def test_what_the_layers_do_not_compute_is_left_to_the_modules(what: str) -> None:
    import transformers as hf
    from peft import LoraConfig, get_peft_model

    small: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    }
    model: Any
    if what == "window":
        model = hf.MistralForCausalLM(hf.MistralConfig(**small, sliding_window=8))
    elif what == "another family":
        model = hf.Gemma2ForCausalLM(hf.Gemma2Config(**small, head_dim=8))
    elif what == "another activation":
        model = hf.LlamaForCausalLM(hf.LlamaConfig(**small, hidden_act="gelu"))
    else:
        adapter = LoraConfig(
            target_modules="all-linear",
            lora_dropout=0.1 if what == "dropout" else 0.0,
            use_dora=what == "dora",
        )
        model = get_peft_model(hf.LlamaForCausalLM(hf.LlamaConfig(**small)), adapter)
    assert not fuse(model)
    assert fused(model) is None


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 3),
    keys=st.integers(1, 2),
    groups=st.integers(1, 3),
    length=st.integers(1, 11),
    prefix=st.integers(0, 5),
    block=st.integers(2, 12),
    seed=st.integers(0, 99),
)
def test_attention_is_torch_s_own(
    rows: int, keys: int, groups: int, length: int, prefix: int, block: int, seed: int
) -> None:
    numbers = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=numbers, dtype=torch.float64).requires_grad_()

    q = draw(rows, keys, groups, length, 4)
    k, v = (draw(rows, keys, prefix + length, 4) for _ in range(2))
    mask = torch.ones(length, prefix + length, dtype=torch.bool).tril(prefix)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q, k[:, :, None], v[:, :, None], attn_mask=mask, scale=0.3
    )
    d_out = torch.randn(wanted.shape, generator=numbers, dtype=torch.float64)
    gradients = torch.autograd.grad(wanted, (q, k, v), d_out)
    whole = attention.BLOCK
    attention.BLOCK = block
    try:
        with torch.no_grad():
            out, p = attend(q, k, v, 0.3)
            found = attend_backward(d_out, q, k, v, p, 0.3)
    finally:
        attention.BLOCK = whole
    torch.testing.assert_close(out, wanted.detach())
    for ours, theirs in zip(found, gradients, strict=True):
        # sums over blocks are kept in float32
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("lora", [True, False])
def test_what_runs_on_a_gpu_computes_the_same(
    family: str, lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arithmetic of the GPU's kernels, run on the CPU; rows of any length, no padding."""
    from luthier.training.fused import model as fused_model
    from luthier.training.fused.on_gpu import OnGpu

    model = model_of(family, lora=lora)
    wanted, expected = passes(model, 0, fast=False)
    for parameter in model.parameters():
        parameter.grad = None
    monkeypatch.setattr(fused_model, "kernels_for", lambda *_: OnGpu())
    hidden, gradients = passes(model, 0, fast=True)
    torch.testing.assert_close(hidden, wanted, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        dense = gradient.to_dense() if gradient.is_sparse else gradient
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(dense, expected[name], rtol=1e-4, atol=1e-5 * scale + 1e-7)


def test_the_loss_of_a_gpu_is_the_loss() -> None:
    from luthier.training.fused.on_gpu import softmax_gradient

    numbers = torch.Generator().manual_seed(5)
    scores = torch.randn(6, 11, generator=numbers) * 4
    goals = torch.randint(0, 11, (6, 1), generator=numbers)
    exact = scores.double().requires_grad_()
    wanted = torch.nn.functional.cross_entropy(exact, goals[:, 0], reduction="sum")
    wanted.backward()
    assert float(softmax_gradient(scores, goals)) == pytest.approx(float(wanted), rel=1e-6)
    assert exact.grad is not None
    torch.testing.assert_close(scores.double(), exact.grad, rtol=1e-5, atol=1e-6)
