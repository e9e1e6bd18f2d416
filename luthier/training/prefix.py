"""A prefix that all rows of a batch share, computed once and attended to by all of them.

Fine-tuning on a task repeats its instruction in every row. With b rows of a prefix p and own parts
s, a step costs p + b s tokens instead of b (p + s). Keys and values of the prefix keep their
gradient, which autograd adds up over the rows, so the result is the same.
"""

from __future__ import annotations

from typing import Any

import torch

from luthier.models.shared_keys import record, shared


def after_prefix(model: Any, prefix: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states (b, s, hidden) of rows `ids` (b, s) that all follow `prefix` (1, p).

    Args:
        model: the body of a causal LM.
        prefix: token ids.
        ids: token ids; padding, if any, is on the right.
    """
    behind = shared(record(model, input_ids=prefix))
    hidden: torch.Tensor = model(
        input_ids=ids, past_key_values=behind, use_cache=True
    ).last_hidden_state
    return hidden
