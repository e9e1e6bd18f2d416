"""Attention of many rows to one shared beginning, whose keys and values exist once.

Rows that start alike (an instruction, worked examples) have equal keys and values for that part.
Copied into the cache of every row they are read from memory again for every row and token, which is
most of the time of few-shot answers on a CPU. Here the queries of all rows meet the one copy in one
matrix product, and each row's own keys apart; both parts share one softmax. The result is that of
ordinary attention, up to rounding (Juravsky et al. 2024, "Hydragen", arXiv 2402.05099).

It is an attention implementation of transformers' interface, in force only inside `attending`.
Models differ in what they do between queries and softmax (caps, sinks, windows), so whether it may
be used is not read off their configuration: `agrees` tries it on the model at hand.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from luthier.generation.cache import RoomyCache
from luthier.models.heads import body

NAME = "luthier_shared_prefix"
#: Scores (query, key pairs of all heads) that are held at once, about.
_SCORES = 1 << 24
#: Tokens of the trial, and how far hidden states of a float32 model may differ in it, as a share of
#: the largest.
_PREFIX, _OWN, _TOLERANCE = 9, 5, 1e-4

_held = threading.local()


@contextlib.contextmanager
def attending(model: Any, prefix: RoomyCache) -> Iterator[None]:
    """Let a model's layers attend to `prefix` besides what their cache returns.

    Args:
        model: a causal LM for which `agrees` holds.
        prefix: of one row.
    """
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    _held.layers = prefix.layers
    try:
        yield
    finally:
        config._attn_implementation = before
        _held.layers = None


def agrees(model: Any) -> bool:
    """Whether attention with a shared beginning gives the model the hidden states that ordinary
    attention gives it; tried on a few tokens, padding among them. True on CPUs alone: on a GPU the
    copies are cheap and the ordinary kernels fast."""
    device = next(model.parameters()).device
    if device.type != "cpu":
        return False
    count = int(model.config.get_text_config().vocab_size)
    draws = torch.Generator().manual_seed(0)
    whole = torch.randint(0, count, (1, _PREFIX), generator=draws)
    own = torch.randint(0, count, (2, _OWN), generator=draws)
    mask = torch.ones(2, _PREFIX + _OWN, dtype=torch.long)
    mask[1, _PREFIX : _PREFIX + 2] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, _PREFIX:]
    found = []
    try:
        for shared in (False, True):
            layers = int(model.config.get_text_config().num_hidden_layers)
            prefix = RoomyCache(layers, 1, _PREFIX)
            body(model)(input_ids=whole, past_key_values=prefix, use_cache=True)
            cache = RoomyCache(layers, 2, _OWN + _PREFIX * (not shared), prefix, shared=shared)
            with attending(model, prefix) if shared else contextlib.nullcontext():
                states = [
                    body(model)(
                        input_ids=own[:, start:end],
                        attention_mask=mask[:, : _PREFIX + end],
                        position_ids=positions[:, start:end],
                        past_key_values=cache,
                        use_cache=True,
                    ).last_hidden_state
                    for start, end in ((0, _OWN - 1), (_OWN - 1, _OWN))  # several tokens, then one
                ]
            found.append(torch.cat(states, dim=1).float())
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False  # a model that calls attention in a way of its own
    real = mask[:, _PREFIX:].bool()
    plain, shared_states = (states[real] for states in found)
    allowed = _TOLERANCE if model.dtype == torch.float32 else 0.05
    difference = (plain - shared_states).abs().max()
    return bool(difference <= allowed * plain.abs().max())


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """One layer's attention, in the form transformers asks for.

    Args:
        module: the layer; its `layer_idx` says which of the prefix's layers is meant.
        query: (rows, heads, t, d).
        key, value: each row's own, (rows, heads of keys, n, d).
        attention_mask: (rows or 1, 1, t, p + n) of bool or of what is added to scores; None where
            tokens see all before them. Whatever is before a row's own tokens is seen.
        scaling: of scores; 1 / sqrt(d) when None.

    Returns:
        ((rows, t, heads, d), None).
    """
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise ValueError("attention with a cap or with sinks")
    prefix = _held.layers[module.layer_idx]
    rows, heads, asked, size = query.shape
    scale = size**-0.5 if scaling is None else scaling
    mask = _own_mask(attention_mask, asked, key.shape[2], query.dtype)
    merged = _by_hand if query.dtype == torch.float32 else _by_kernel
    out = query.new_empty(rows, heads, asked, value.shape[3])
    known = prefix.keys.shape[2] + key.shape[2]
    at_once = max(1, _SCORES // (heads * known))  # queries
    some_rows, some = max(1, at_once // asked), min(asked, at_once)
    for row in range(0, rows, some_rows):
        part = slice(row, row + some_rows)
        for start in range(0, asked, some):
            piece = slice(start, start + some)
            seen = mask if mask is None else mask[part if len(mask) > 1 else slice(None), :, piece]
            out[part, :, piece] = merged(
                query[part, :, piece],
                key[part],
                value[part],
                prefix.keys,
                prefix.values,
                seen,
                scale,
            )
    return out.transpose(1, 2), None


def _own_mask(
    mask: torch.Tensor | None, asked: int, own: int, dtype: torch.dtype
) -> torch.Tensor | None:
    """What is added to scores of a row's own keys, (rows or 1, 1, t, n); None for nothing."""
    if mask is None:
        if asked == 1:
            return None
        mask = torch.ones(asked, own, dtype=torch.bool).tril(own - asked)[None, None]
    mask = mask[..., mask.shape[-1] - own :]
    if mask.dtype == torch.bool:
        added = torch.zeros(mask.shape, dtype=dtype)
        return added.masked_fill_(~mask, torch.finfo(dtype).min)
    return mask


def _by_hand(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    before: torch.Tensor,
    before_value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """(rows, heads, t, d) by plain products; the heads that share a key are one product."""
    rows, heads, asked, size = query.shape
    groups, shared = key.shape[1], before.shape[2]
    query = (query * scale).reshape(rows, groups, -1, size)  # heads of a group, then tokens
    together = query.transpose(0, 1).reshape(groups, -1, size)
    left = together @ before[0].transpose(1, 2)
    right = (query @ key.transpose(2, 3)).view(rows, groups, heads // groups, asked, -1)
    if mask is not None:
        right = right + mask[:, :, None]
    scores = torch.cat(
        [
            left.view(groups, rows, -1, shared).transpose(0, 1),
            right.view(rows, groups, -1, key.shape[2]),
        ],
        dim=-1,
    )
    weights = torch.softmax(scores, dim=-1)
    first = weights[..., :shared].transpose(0, 1).reshape(groups, -1, shared) @ before_value[0]
    out = weights[..., shared:] @ value
    out += first.view(groups, rows, -1, value.shape[3]).transpose(0, 1)
    return out.view(rows, heads, asked, -1)


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    before: torch.Tensor,
    before_value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """The same for half precision: both parts by PyTorch's kernel, which keeps scores in float32
    and returns the logarithm of each softmax's sum, by which the parts are put together."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    rows, heads, asked, size = query.shape
    groups = key.shape[1]
    each = heads // groups
    grouped = query.reshape(rows, groups, each * asked, size)
    together = grouped.transpose(0, 1).reshape(1, groups, -1, size)
    first, log_first = kernel(together, before, before_value, 0.0, False, scale=scale)
    if mask is not None and each > 1:  # tokens repeat for every head of a group
        mask = mask.repeat(1, 1, each, 1)
    own, log_own = kernel(grouped, key, value, 0.0, False, attn_mask=mask, scale=scale)
    first = first.view(groups, rows, each * asked, -1).transpose(0, 1).float()
    log_first = log_first.view(groups, rows, each * asked).transpose(0, 1)
    share = torch.sigmoid(log_own.float() - log_first.float())[..., None]
    out = torch.lerp(first, own.float(), share)
    return out.to(query.dtype).reshape(rows, heads, asked, -1)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
