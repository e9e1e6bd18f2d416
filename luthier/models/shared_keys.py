"""Keys and values that stand before every row of a batch, held once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

#: Keys and values of one layer, each (1, heads, tokens, head_dim); for every layer of a model.
States = Sequence[tuple[torch.Tensor, torch.Tensor]]


class SharedLayer(DynamicLayer):
    """Puts keys and values before every row's own, with their gradient; stores nothing.

    Autograd adds the gradient up over the rows.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, heads, s, d) to (b, heads, p + s, d)."""
        assert self.keys is not None and self.values is not None
        rows = key_states.shape[0]
        return (
            torch.cat([self.keys.expand(rows, -1, -1, -1), key_states], dim=2),
            torch.cat([self.values.expand(rows, -1, -1, -1), value_states], dim=2),
        )


def shared(states: States) -> Cache:
    """A cache that puts `states` before every row and keeps nothing of the rows."""
    return Cache(layers=[SharedLayer(keys, values) for keys, values in states])


def layers_of(body: Any) -> int:
    """How many layers of keys and values a body has."""
    return int(body.config.get_text_config().num_hidden_layers)


def record(body: Any, **inputs: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The keys and values that a body computes for one row, with their gradient.

    Layers that keep none of their own, because they look at those of another layer, have tensors
    without elements.

    Args:
        body: of a causal model (`heads.body`).
        inputs: `input_ids` (1, n) or `inputs_embeds` (1, n, hidden).
    """
    recorded = [DynamicLayer() for _ in range(layers_of(body))]
    body(**inputs, past_key_values=Cache(layers=recorded), use_cache=True)
    none = torch.empty(1, 0, 0, 0)
    return [
        (none, none) if layer.keys is None or layer.values is None else (layer.keys, layer.values)
        for layer in recorded
    ]
