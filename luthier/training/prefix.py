"""A prefix that all rows of a batch share, computed once and attended to by all of them.

Fine-tuning on a task repeats its instruction in every row. With b rows of a prefix p and own parts
s, a step costs p + b s tokens instead of b (p + s). Keys and values of the prefix keep their
gradient, which autograd adds up over the rows, so the result is the same.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


class _Shared(DynamicLayer):
    """Puts the prefix before every row's own keys and values; stores nothing."""

    def __init__(self, recorded: DynamicLayer) -> None:
        super().__init__()
        self.keys, self.values = recorded.keys, recorded.values
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


def after_prefix(model: Any, prefix: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states (b, s, hidden) of rows `ids` (b, s) that all follow `prefix` (1, p).

    Args:
        model: the body of a causal LM.
        prefix: token ids.
        ids: token ids; padding, if any, is on the right.
    """
    layers = int(model.config.get_text_config().num_hidden_layers)
    recorded = [DynamicLayer() for _ in range(layers)]
    model(input_ids=prefix, past_key_values=Cache(layers=recorded), use_cache=True)
    shared = Cache(layers=[_Shared(layer) for layer in recorded])
    hidden: torch.Tensor = model(
        input_ids=ids, past_key_values=shared, use_cache=True
    ).last_hidden_state
    return hidden
