"""Causal grouped-query attention over rows that may share a prefix, forward and backward.

Without mask tensors over the batch and without copies of keys for every query head: the query
heads that share a key head are put one below the other, so that each key head is one matrix
product. Long rows are cut into blocks of queries, each of which looks only at the keys up to its
end, so that scores never take more memory than a block.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

#: Queries of a row that are looked at together.
BLOCK = 512


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864, equation 34).

    Args:
        x: (b, l, heads, d), any strides.
        cos, sin: (l, 1, d / 2); give -sin for the inverse.
        out: written; a (b, l, heads, d) view of any layout.
    """
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    torch.mul(first, cos, out=out[..., :half])
    out[..., :half].addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half:])
    out[..., half:].addcmul_(first, sin)
    return out


@functools.lru_cache(maxsize=64)
def _mask(groups: int, queries: int, keys: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(groups * queries, keys): 0 where a query may look, the lowest number elsewhere; the last
    query sees every key."""
    lowest = torch.finfo(dtype).min
    full = torch.full((queries, keys), lowest, dtype=dtype, device=device)
    return full.triu_(1 + keys - queries).repeat(groups, 1)


def probabilities(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Softmax of masked scores, (b * h, g * l, m), for `q` (b, h, g, l, d) and `k` (b, h, m, d):
    query i sees keys up to m - l + i."""
    b, h, g, length, d = q.shape
    keys = k.shape[2]
    mask = _mask(g, length, keys, q.dtype, q.device)
    scores = torch.baddbmm(
        mask,
        q.reshape(b * h, g * length, d),
        k.reshape(b * h, keys, d).transpose(1, 2),
        alpha=scale,
    )
    return torch.softmax(scores, dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor | None]:
    """Attention of `l` queries to `p + l` keys, the first p of which every query sees.

    Args:
        q: (b, h, g, l, d): g query heads for each of the h key heads.
        k: (b, h, p + l, d).
        v: (b, h, p + l, d).
        scale: of the scores.

    Returns:
        (the output (b, h, g, l, d), and the probabilities where they are small enough to keep).
    """
    b, h, g, length, d = q.shape
    prefix = k.shape[2] - length
    if length <= BLOCK:
        p = probabilities(q, k, scale)
        out = torch.bmm(p, v.reshape(b * h, prefix + length, d)).view(b, h, g, length, d)
        return out, p if prefix + length <= BLOCK // 2 else None
    out = torch.empty_like(q)
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        seen = slice(0, prefix + stop)
        out[:, :, :, start:stop] = attend(
            q[:, :, :, start:stop], k[:, :, seen], v[:, :, seen], scale
        )[0]
    return out, None


def attend_backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `attend` with respect to q, k and v.

    With P = softmax(S), O = P V: dV = P^T dO, dP = dO V^T, dS = P * (dP - rowsum(dP * P)),
    dQ = scale dS K, dK = scale dS^T Q.

    Args:
        d_out: (b, h, g, l, d).
        q, k, v: as given to `attend`.
        p: what `attend` returned; computed anew when None.
        scale: of the scores.
    """
    b, h, g, length, d = q.shape
    keys = k.shape[2]
    if length > BLOCK:
        d_q = torch.empty_like(q)
        d_k = torch.zeros(k.shape, dtype=torch.float32, device=k.device)
        d_v = torch.zeros(v.shape, dtype=torch.float32, device=v.device)
        for start in range(0, length, BLOCK):
            stop = min(start + BLOCK, length)
            seen = slice(0, keys - length + stop)
            part = slice(start, stop)
            d_q[:, :, :, part], some_k, some_v = attend_backward(
                d_out[:, :, :, part], q[:, :, :, part], k[:, :, seen], v[:, :, seen], None, scale
            )
            d_k[:, :, seen] += some_k
            d_v[:, :, seen] += some_v
        return d_q, d_k.to(k.dtype), d_v.to(v.dtype)
    if p is None:
        p = probabilities(q, k, scale)
    flat_q, flat_d = q.reshape(b * h, g * length, d), d_out.reshape(b * h, g * length, d)
    flat_k, flat_v = k.reshape(b * h, keys, d), v.reshape(b * h, keys, d)
    d_v = torch.bmm(p.transpose(1, 2), flat_d)
    d_p = torch.bmm(flat_d, flat_v.transpose(1, 2))
    d_s = torch.ops.aten._softmax_backward_data(d_p, p, -1, p.dtype)
    d_q = torch.baddbmm(flat_q, d_s, flat_k, beta=0, alpha=scale)
    d_k = torch.baddbmm(flat_k, d_s.transpose(1, 2), flat_q, beta=0, alpha=scale)
    return d_q.view_as(q), d_k.view(b, h, keys, d), d_v.view(b, h, keys, d)
