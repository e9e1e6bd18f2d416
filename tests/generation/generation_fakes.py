"""Prompts, a plain way to generate and to score, and a model that looks back only so far."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tiny_models import make_tokenizer


def random_prompts(lengths: Sequence[int], *, shared: int = 0, seed: int = 0) -> list[list[int]]:
    """Prompts of these lengths, of ordinary tokens, that start with the same `shared` tokens."""
    source = random.Random(seed)
    start = [source.randrange(256) for _ in range(shared)]
    return [start + [source.randrange(256) for _ in range(n - shared)] for n in lengths]


def plainly_generated(model: Any, prompt: Sequence[int], new: int, stops: Sequence[int]) -> Any:
    """transformers' own greedy answer, one prompt at a time, the stop token included."""
    import torch

    ids = torch.tensor([list(prompt)])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=list(stops),
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()


def plain_score(model: Any, prompt: Sequence[int], choice: Sequence[int]) -> float:
    """Log-likelihood of `choice` after `prompt` by one full forward pass."""
    import torch

    with torch.no_grad():
        ids = torch.tensor([[*prompt, *choice]])
        logs = model(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)
    start = len(prompt) - 1
    return sum(float(logs[0, start + i, token]) for i, token in enumerate(choice))


def window_model(window: int = 12) -> tuple[Any, Any]:
    """A tiny random Gemma 3 whose first layers see `window` tokens, and its tokenizer."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(3)
    tokenizer = make_tokenizer()
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=window,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        max_position_embeddings=256,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Gemma3ForCausalLM(config).eval(), tokenizer
