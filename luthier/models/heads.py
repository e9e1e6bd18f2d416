"""The two halves of a causal model: hidden states, and the head that turns them into logits.

Models return hidden states; whoever needs logits asks for the positions it needs. So tokens
nobody scores never meet the vocabulary, which at 49,152 entries is most of the memory.
"""

from __future__ import annotations

from typing import Any

import torch


def body(model: Any) -> Any:
    """The part of a causal model that ends in hidden states (batch, tokens, hidden).

    For a model with a soft prefix it is something called alike (`soft_prefix.SoftBody`).
    """
    soft = getattr(model, "soft_body", None)
    if soft is not None:
        return soft
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.base_model


def virtual_tokens(model: Any) -> int:
    """Positions that a soft prefix takes before every row; 0 for models without one."""
    soft = getattr(model, "soft_body", None)
    return 0 if soft is None else int(soft.length)


def logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Float32 logits (..., vocabulary) of hidden states (..., hidden).

    Applies what some families add after the head: a scale (Cohere, Granite) and a soft cap
    (Gemma 2: cap * tanh(logits / cap)).
    """
    return finished(model, model.get_output_embeddings()(hidden))


def finished(model: Any, scores: torch.Tensor) -> torch.Tensor:
    """Float32 logits of what the head made of hidden states, in the head's precision; see
    `logits`."""
    out = scores.float()
    config = model.config.get_text_config()
    scale = getattr(config, "logit_scale", None)
    if scale:
        out = out * scale
    scaling = getattr(config, "logits_scaling", None)
    if scaling:
        out = out / scaling
    cap = getattr(config, "final_logit_softcapping", None)
    if cap:
        out = torch.tanh(out / cap) * cap
    return out


def keeps_state(model: Any) -> bool:
    """Whether the model keeps something other than keys and values between tokens (Mamba and its
    hybrids), so that a beginning cannot be read once for several rows."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return bool(getattr(inner, "_is_stateful", False)) or "linear_attention" in kinds


def stop_ids(model: Any) -> tuple[int, ...]:
    """The ids at which the model's own generation config ends an answer."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    if ids is None:
        return ()
    return tuple(int(i) for i in (ids if isinstance(ids, list | tuple) else [ids]))
