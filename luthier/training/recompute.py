"""Gradient checkpointing: activations are computed again in the backward pass instead of kept.

Memory for activations falls from that of all layers to that of one layer and the borders between
them, for one more forward pass (Chen et al. 2016, arXiv 1604.06174). Nothing else changes: the same
operations on the same numbers, dropout included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from luthier.errors import ModelError


@contextlib.contextmanager
def recomputing(model: Any, wanted: bool) -> Iterator[None]:
    """Have every layer of `model` computed again in the backward pass while the block lasts.

    Args:
        model: a transformers model, or a peft model around one.
        wanted: False leaves the model as it is.

    Raises:
        ModelError: the model or what was added to it cannot do that.
    """
    if not wanted:
        yield
        return
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    fix = "Leave out training.gradient_checkpointing."
    kinds = {
        str(getattr(one.peft_type, "value", one.peft_type))
        for one in (getattr(model, "peft_config", None) or {}).values()
    }
    if "PREFIX_TUNING" in kinds:
        # transformers drops the cache that carries the prefix when it recomputes
        raise ModelError("Prefix tuning cannot be trained with gradient checkpointing.", fix=fix)
    if not getattr(inner, "supports_gradient_checkpointing", False):
        raise ModelError(
            f"{type(inner).__name__} cannot be trained with gradient checkpointing.", fix=fix
        )
    already = recomputes(inner)
    inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        if not already:
            inner.gradient_checkpointing_disable()


def recomputes(model: Any) -> bool:
    """Whether a model's layers are computed again in the backward pass. Such layers keep no keys
    and values, so nothing that rows share can be computed once (`prefix.py`)."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return any(getattr(module, "gradient_checkpointing", False) for module in inner.modules())
