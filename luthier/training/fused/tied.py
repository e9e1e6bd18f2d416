"""The two gradients of an embedding that is the output head too, added up where the first lies.

Autograd would add them in a third matrix. The head's gradient is a whole matrix and comes first,
that of the embedding is a few rows: they are added to the head's while it waits for them.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

#: Gradients of heads that autograd holds until those of the embedding have come, by the id of the
#: weight.
_WAITING: dict[int, weakref.ref[Tensor]] = {}


def announce(weight: Tensor, gradient: Tensor) -> None:
    """`gradient` is about to be given to autograd as that of a head's weight.

    If autograd adds it to another one instead of keeping it, it is gone when it is looked for.
    """
    _WAITING[id(weight)] = weakref.ref(gradient)


class TiedEmbedding(torch.autograd.Function):
    """Rows of a weight (v, d) that is the head's too, by ids (n,)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, left_out: int | None) -> Tensor:
        """(n, d). The row `left_out` gets no gradient, as `padding_idx` has it."""
        ctx.weight, ctx.left_out = weight, left_out
        ctx.save_for_backward(ids)
        return weight.detach()[ids]

    @staticmethod
    def backward(ctx: Any, d_rows: Tensor) -> tuple[Tensor | None, None, None]:
        """Nothing, where the head's gradient was there to be added to; else a sparse one."""
        (ids,) = ctx.saved_tensors
        waiting = _WAITING.pop(id(ctx.weight), None)
        whole = waiting() if waiting else None
        if ctx.left_out is not None:
            kept = ids != ctx.left_out
            ids, d_rows = ids[kept], d_rows[kept]
        rows = torch.sparse_coo_tensor(ids[None], d_rows, ctx.weight.shape, check_invariants=False)
        if whole is None or whole.shape != rows.shape or whole.dtype != rows.dtype:
            return rows, None, None
        whole.add_(rows)
        return None, None, None
