"""Rows attend to one copy of what they start with, and nothing changes but speed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from generation_fakes import plain_score, plainly_generated, random_prompts, window_model
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_tokenizer
from transformers import (
    Cohere2Config,
    Cohere2ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from luthier.generation import shared_prefix
from luthier.generation.cache import RoomyCache
from luthier.generation.local import Generator
from luthier.generation.options import Stopping
from luthier.generation.runner import Runner
from luthier.generation.shared_prefix import NAME, agrees, attend

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "vocab_size": 300,
}


def model_of(kind: str, **more: Any) -> Any:
    torch.manual_seed(1)
    sizes = {**SIZES, **more}
    if kind == "gpt2":
        config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=512)
        return GPT2LMHeadModel(config).eval()
    configs: dict[str, Any] = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "phi": (PhiConfig, PhiForCausalLM),
        "gemma2": (Gemma2Config, Gemma2ForCausalLM),
        "gpt-oss": (GptOssConfig, GptOssForCausalLM),
        "cohere2": (Cohere2Config, Cohere2ForCausalLM),
    }
    config, made = configs[kind]
    return made(config(**sizes)).eval()


@pytest.mark.parametrize(
    "kind, more",
    [
        ("llama", {}),
        ("llama", {"num_key_value_heads": 4}),
        ("llama", {"num_key_value_heads": 1}),
        ("qwen3", {}),
        ("phi", {}),
        ("gpt2", {}),
    ],
    ids=str,
)
def test_answers_and_scores_are_those_of_transformers(
    kind: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(kind, **more)
    assert Runner(model).shares
    used: list[int] = []
    real = shared_prefix._by_hand
    monkeypatch.setattr(shared_prefix, "_by_hand", lambda *rest: (used.append(1), real(*rest))[1])
    prompts = random_prompts([90, 71, 105, 72, 88], shared=70, seed=2)
    generator = Generator(model, make_tokenizer())
    prefix = generator._runner.shared_prefix(prompts, 12)
    assert prefix.length == 70 and prefix.shared
    answers = generator.generate(prompts, Stopping(frozenset({7}), (), 12))
    for prompt, answer in zip(prompts, answers, strict=True):
        wanted = plainly_generated(model, prompt, 12, (7,))
        text = make_tokenizer().decode([i for i in wanted if i != 7], skip_special_tokens=True)
        assert answer.completion_tokens == len(wanted)
        assert answer.text == text.strip()
    assert used
    choices = [[3], [3, 4, 5], [200, 9]]
    scores, _ = generator.score(prompts, choices)
    for prompt, row in zip(prompts, scores, strict=True):
        assert row == pytest.approx([plain_score(model, prompt, c) for c in choices], abs=1e-4)
    # and the model is left as it was
    assert model.config._attn_implementation != NAME


@pytest.mark.parametrize("kind", ["gemma2", "gpt-oss", "cohere2"])
def test_models_that_attend_in_a_way_of_their_own_are_found_out(kind: str) -> None:
    # a cap on scores, sinks, and windows
    more = {"num_local_experts": 2, "num_experts_per_tok": 1} if kind == "gpt-oss" else {}
    model = model_of(kind, **more)
    runner = Runner(model)
    assert runner.window is not None or not agrees(model)
    assert not runner.shares
    assert not Runner(window_model(window=12)[0]).shares


def test_a_cap_alone_is_found_out() -> None:
    model = model_of("gemma2", sliding_window=None, layer_types=["full_attention"] * 2)
    assert not agrees(model)
    assert model.config._attn_implementation != NAME


def test_a_difference_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    assert agrees(model)
    real = shared_prefix._by_hand
    monkeypatch.setattr(shared_prefix, "_by_hand", lambda *rest: real(*rest) * 1.01)
    assert not agrees(model)


def test_short_beginnings_and_single_questions_are_copied() -> None:
    runner = Runner(model_of("llama"))
    assert not runner.shared_prefix(random_prompts([30, 31], shared=20), 4).shared
    runner.shared_prefix(random_prompts([90, 91], shared=80, seed=3), 4)
    alone = runner.shared_prefix([random_prompts([90], shared=80, seed=3)[0]], 4)
    assert alone.length == 80 and not alone.shared


def test_a_prompt_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = Runner._read_together

    def counting(self: Runner, suffixes: Any, *rest: Any) -> Any:
        read.append(len(suffixes))
        return real(self, suffixes, *rest)

    monkeypatch.setattr(Runner, "_read_together", counting)
    runner = Runner(model_of("llama"))
    prompts = random_prompts([90, 80, 99, 85], shared=70, seed=4)
    prefix = runner.shared_prefix(prompts, 4)
    runner.read([prompt[70:] for prompt in prompts], prefix, 4)
    assert prefix.shared and read == [4]


def test_a_shared_beginning_leaves_room_for_more_rows() -> None:
    prompts = random_prompts([104] * 40, shared=100, seed=5)
    sizes: list[int] = []

    class Counting(Generator):
        def _decode(self, prompts: Any, *args: Any) -> Any:
            sizes.append(len(prompts))
            yield from super()._decode(prompts, *args)

    model = model_of("llama")
    for shares, wanted in ((True, [40]), (False, [9, 9, 9, 9, 4])):
        sizes.clear()
        generator = Counting(model, make_tokenizer(), batch_tokens=1000, batch_rows=64)
        generator._runner.__dict__["shares"] = shares
        generator.generate(prompts, Stopping(frozenset(), (), 4))
        assert sizes == wanted


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 5),
    groups=st.sampled_from([1, 2, 3]),
    each=st.sampled_from([1, 2, 3]),
    asked=st.integers(1, 6),
    own=st.integers(0, 5),
    shared=st.integers(1, 20),
    masked=st.sampled_from(["none", "bool", "added"]),
    half=st.booleans(),
    at_once=st.sampled_from([1, 100, 1 << 24]),
    seed=st.integers(0, 3),
)
def test_attention_to_two_parts_is_attention_to_the_whole(
    rows: int,
    groups: int,
    each: int,
    asked: int,
    own: int,
    shared: int,
    masked: str,
    half: bool,
    at_once: int,
    seed: int,
) -> None:
    draws = torch.Generator().manual_seed(seed)
    dtype = torch.bfloat16 if half else torch.float32

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draws).to(dtype)

    length, size = own + asked, 8
    query = random(rows, groups * each, asked, size)
    key, value = random(rows, groups, length, size), random(rows, groups, length, size)
    cache = RoomyCache(1, 1, shared)
    cache.update(random(1, groups, shared, size), random(1, groups, shared, size), 0)
    before = cache.layers[0]
    # what each token may see: all before it, less some padding
    seen = torch.ones(rows, 1, asked, shared + length, dtype=torch.bool)
    seen[..., shared:] = torch.ones(asked, length).tril(own).bool()
    if masked != "none":
        padding = torch.rand(rows, length, generator=draws) < 0.3
        seen[..., shared:] &= ~padding[:, None, None, :]
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query.double(),
        torch.cat([before.keys.expand(rows, -1, -1, -1), key], 2).double(),
        torch.cat([before.values.expand(rows, -1, -1, -1), value], 2).double(),
        attn_mask=seen,
        enable_gqa=True,
    )
    mask: torch.Tensor | None = seen
    if masked == "added":
        mask = torch.zeros(seen.shape, dtype=dtype)
        mask = mask.masked_fill(~seen, torch.finfo(dtype).min)
    elif masked == "none" and own == 0:
        mask = None  # tokens see those before them; and one alone sees all
    layer = type("Layer", (), {"layer_idx": 0})()
    config = type("Config", (), {"_attn_implementation": "sdpa"})()
    config.get_text_config = lambda: config
    model = type("Model", (), {"config": config})()
    limit, shared_prefix._SCORES = shared_prefix._SCORES, at_once
    try:
        with shared_prefix.attending(model, cache):
            found, _ = attend(layer, query, key, value, mask)
    finally:
        shared_prefix._SCORES = limit
    assert found.shape == (rows, asked, groups * each, size)
    tolerance = 3e-2 if half else 1e-5
    assert torch.allclose(found.transpose(1, 2).double(), wanted, atol=tolerance)
