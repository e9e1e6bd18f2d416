"""Root-mean-square normalisation, both passes (Zhang & Sennrich 2019, arXiv 1910.07467)."""

from __future__ import annotations

import torch
from torch import Tensor


def norm_into(out: Tensor, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Write x * rsqrt(mean(x^2) + epsilon) * weight into the first columns of `out`.

    Args:
        out: (n, d or more).
        x: (n, d).
        weight: (d).
        epsilon: keeps the root from zero.

    Returns:
        The scales (n, 1), float32.
    """
    width = x.shape[1]
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale: Tensor = (length.square_() / width).add_(epsilon).rsqrt_()
    torch.mul((x * scale).to(x.dtype), weight.detach(), out=out[:, :width])
    return scale


def norm_backward(
    d_y: Tensor, x: Tensor, weight: Tensor, scale: Tensor, *, added_to: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the norm's input, added to another, and of its weight (None when frozen).

    With z = x scale and t = dy weight: dx = scale (t - z mean(t z)), dweight = sum over rows of
    dy z.

    Args:
        d_y: (n, d).
        x: (n, d), what was normalised.
        weight: (d).
        scale: (n, 1), from `norm_into`.
        added_to: (n, d), the gradient that reaches x by another way.
    """
    z = x * scale  # float32, as the scales are
    d_weight = (z * d_y).sum(0).to(weight.dtype) if weight.requires_grad else None
    t = d_y * weight.detach()
    t32 = t.float()
    along = torch.linalg.vecdot(t32, z).unsqueeze(-1).div_(x.shape[1])
    t32.addcmul_(z, along, value=-1).mul_(scale).add_(added_to)
    return t32.to(x.dtype), d_weight
