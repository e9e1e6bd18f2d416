"""What a layer is made of besides matrix products, on a CPU, by the functions of `c/`.

The same groups of rows as in `on_cpu.py`. Rows are filled up so that the keys are a multiple of 16,
and query heads that share a key head stand next to each other at each position: (b, h, l, g, d), so
that a block of positions is a block of matrix rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from luthier.training.fused.native import Native
from luthier.training.fused.on_cpu import rows_of, with_rows

if TYPE_CHECKING:
    from luthier.training.fused.layer import Layer

#: Positions of a row whose queries are looked at together, with the keys up to their end.
BLOCK = 128
#: Probabilities of so many keys at most are kept for the backward pass.
_KEPT = 256
#: Keys are a multiple of this, as `softmax` in c/attention.h wants.
_MULTIPLE = 16


@dataclass(frozen=True)
class Rows:
    """Rows that lie one after another and attend together.

    Attributes:
        first: tokens before them that they all see, p.
        starts: (b,) int64, the token at which each begins.
        lengths: (b,) int64.
        count: b.
        length: l, of the longest, filled up.
    """

    first: int
    starts: Tensor
    lengths: Tensor
    count: int
    length: int


@dataclass(frozen=True)
class Shape:
    """How the n tokens of a micro-batch lie, and where they stand.

    Attributes:
        parts: the prefix that all rows begin with, if any, then groups of rows.
        tokens: of all of them; what lies behind fills up the matrices.
        cos, sin: (positions, head_dim / 2).
    """

    parts: tuple[Rows, ...]
    tokens: int
    cos: Tensor
    sin: Tensor


@dataclass
class _Span:
    """What the backward pass needs of tokens that attend together.

    Attributes:
        q: (b h, l g, d).
        k, v: (b h, p + l, d).
        p: the probabilities of each block; None where they are computed anew.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    p: list[Tensor] | None


class OnCpuNative:
    """See `kernels.Kernels`."""

    shares_prefix = True
    norms_again = True

    def __init__(self, native: Native) -> None:
        self._run = native

    def shape(self, inner: Any, lengths: Sequence[int], first: int, hidden: Tensor) -> Shape:
        """How the tokens lie, in groups of rows of similar length."""
        parts = [_rows([first], 0, 0)] if first else []
        start = first
        for group in rows_of(lengths):
            parts.append(_rows(group, start, first))
            start += sum(group)
        longest = max(part.first + part.length for part in parts)
        cos, sin = inner.rotary_emb(hidden, torch.arange(longest)[None])
        half = cos.shape[-1] // 2
        turns = (one[0, :, :half].contiguous() for one in (cos, sin))
        return Shape(tuple(parts), start, *turns)

    def norm(self, out: Tensor, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """See `Kernels`."""
        n, d = x.shape
        scale = torch.empty(n, 1)
        x = x.contiguous()
        self._run("norm", x.dtype, n, d, epsilon, x, weight, out, out.stride(0), scale)
        return scale

    def norm_backward(
        self, d_y: Tensor, x: Tensor, weight: Tensor, scale: Tensor, *, added_to: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See `Kernels`."""
        n, d = x.shape
        x, added_to = x.contiguous(), added_to.contiguous()
        out = torch.empty_like(x)
        of_input = (n, d, d_y, d_y.stride(0), x, weight, scale, added_to, out)
        self._run("norm_backward", x.dtype, *of_input)
        if not weight.requires_grad:
            return out, None
        d_weight = torch.empty(d)
        self._run("norm_weight", x.dtype, n, d, d_y, d_y.stride(0), x, scale, d_weight)
        return out, d_weight.to(weight.dtype)

    def gate(self, gate_up: Tensor, out: Tensor) -> None:
        """See `Kernels`."""
        n, width = gate_up.shape[0], gate_up.shape[1] // 2
        self._run("gate", gate_up.dtype, n, width, gate_up, out, out.stride(0))

    def gate_backward(self, gate_up: Tensor, d_act: Tensor, out: Tensor) -> Tensor:
        """See `Kernels`."""
        n, width = gate_up.shape[0], gate_up.shape[1] // 2
        d_gate_up = torch.empty_like(gate_up)
        places = (gate_up, d_act, d_act.stride(0), d_gate_up, out, out.stride(0))
        self._run("gate_backward", gate_up.dtype, n, width, *places)
        return d_gate_up

    def attention(self, layer: Layer, qkv: Tensor, shape: Shape, out: Tensor) -> list[_Span]:
        """Attend, and write the result (n, heads * head_dim) into `out`."""
        g, h = layer.heads
        d = layer.head_dim
        spans: list[_Span] = []
        for rows in shape.parts:
            b, length, first = rows.count, rows.length, rows.first
            q = qkv.new_empty(b * h, length * g, d)
            k, v = (qkv.new_empty(b * h, first + length, d) for _ in range(2))
            before = (spans[0].k, spans[0].v, spans[0].k.shape[1]) if first else (None, None, 0)
            self._run(
                *("split", qkv.dtype, b, h, g, length, d, first, rows.starts, rows.lengths, qkv),
                *(shape.cos[first:], shape.sin[first:], *before, q, k, v),
            )
            o, p = self._attend(q, k, v, g, length, d**-0.5)
            self._heads(rows, (h, g, d), o, out, back=False)
            spans.append(_Span(q, k, v, p))
        out[shape.tokens :] = 0
        return spans

    def attention_backward(
        self, layer: Layer, d_out: Tensor, spans: list[_Span], shape: Shape
    ) -> Tensor:
        """Gradient of the (n, (g h + 2 h) d) that `attention` was given."""
        g, h = layer.heads
        d = layer.head_dim
        d_qkv = d_out.new_empty(d_out.shape[0], (g + 2) * h * d)
        of_prefix: list[Tensor] = []
        for rows in reversed(shape.parts):
            span = spans.pop()
            b, length, first = rows.count, rows.length, rows.first
            d_o = torch.empty_like(span.q)
            self._heads(rows, (h, g, d), d_o, d_out, back=True)
            d_q, d_k, d_v = self._attend_backward(d_o, span, g, length, d**-0.5)
            if first:
                rows_own = [one.view(b, h, -1, d) for one in (d_k, d_v)]
                of_prefix = with_rows(of_prefix, rows_own, first)
            elif of_prefix:
                for one, more in zip((d_k, d_v), of_prefix, strict=True):
                    seen = one[:, : more.shape[1]]
                    seen.copy_(seen.float() + more)
            self._run(
                *("join", d_out.dtype, b, h, g, length, d, first, rows.starts, rows.lengths),
                *(d_q, d_k, d_v, shape.cos[first:], shape.sin[first:], d_qkv),
            )
        d_qkv[shape.tokens :] = 0
        return d_qkv

    def loss(self, scores: Tensor, goals: Tensor) -> Tensor:
        """The summed cross-entropy of scores (n, v) against goals (n, 1), float32; the scores are
        overwritten with its gradient, softmax - one_hot."""
        if goals.numel() and not 0 <= int(goals.min()) <= int(goals.max()) < scores.shape[1]:
            raise IndexError(f"a target is no token id below {scores.shape[1]}")
        losses = torch.empty(scores.shape[0], dtype=torch.float64)
        self._run(
            "cross_entropy", scores.dtype, *scores.shape, 1.0, scores, goals.contiguous(), losses
        )
        return losses.sum().float()

    # ---- attention ------------------------------------------------------------------------------

    def _heads(
        self, rows: Rows, heads: tuple[int, int, int], o: Tensor, out: Tensor, *, back: bool
    ) -> None:
        """Between (b h, l g, d) and the rows' tokens in `out` (n, h g d)."""
        h, g, d = heads
        lies = (rows.count, h, g, rows.length, d, rows.starts, rows.lengths)
        self._run("heads", o.dtype, *lies, o, out, out.stride(0), int(back))

    def _probabilities(self, q: Tensor, k: Tensor, g: int, scale: float) -> Tensor:
        """Softmax of the scores of the last positions, whose queries are q (b, l g, d), against
        all keys (b, m, d) up to each of them."""
        p = torch.bmm(q, k.transpose(1, 2))
        self._run("softmax", q.dtype, p.shape[0], p.shape[1] // g, g, p.shape[2], scale, p)
        return p

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, g: int, length: int, scale: float
    ) -> tuple[Tensor, list[Tensor] | None]:
        keys = k.shape[1]
        blocks = _blocks(length)
        kept: list[Tensor] = []
        out = torch.empty_like(q) if len(blocks) > 1 else q
        for start, stop in blocks:
            seen = keys - length + stop
            p = self._probabilities(q[:, start * g : stop * g], k[:, :seen], g, scale)
            if len(blocks) == 1:
                out = torch.bmm(p, v)
            else:
                out[:, start * g : stop * g] = torch.bmm(p, v[:, :seen])
            if keys <= _KEPT:
                kept.append(p)
        return out, kept or None

    def _attend_backward(
        self, d_o: Tensor, span: _Span, g: int, length: int, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """With P = softmax(S), O = P V: dV = P^T dO, dP = dO V^T, dS = P * (dP - rowsum(dP * P)),
        dQ = scale dS K, dK = scale dS^T Q; sums over blocks in float32."""
        keys, d = span.k.shape[1:]
        blocks = _blocks(length)
        one = len(blocks) == 1
        d_q = torch.empty_like(d_o)
        wide = [] if one else [torch.zeros(span.k.shape) for _ in range(2)]
        d_k = d_v = d_q
        for number, (start, stop) in enumerate(blocks):
            seen, own = keys - length + stop, slice(start * g, stop * g)
            q, k, v = span.q[:, own], span.k[:, :seen], span.v[:, :seen]
            p = span.p[number] if span.p else self._probabilities(q, k, g, scale)
            d_v = torch.bmm(p.transpose(1, 2), d_o[:, own])
            d_s = torch.bmm(d_o[:, own], v.transpose(1, 2))
            places = (p.shape[0], stop - start, g, seen, scale, p, d_s)
            self._run("softmax_backward", p.dtype, *places)
            d_k = torch.bmm(d_s.transpose(1, 2), q)
            if one:
                return torch.bmm(d_s, k), d_k, d_v
            d_q[:, own] = torch.bmm(d_s, k)
            for total, some in zip(wide, (d_k, d_v), strict=True):
                lies = (some.shape[0], seen * d, some, total, total.stride(0))
                self._run("add", some.dtype, *lies)
        d_k, d_v = (total.to(d_o.dtype) for total in wide)
        return d_q, d_k, d_v


def _rows(lengths: Sequence[int], start: int, first: int) -> Rows:
    sizes = torch.tensor(lengths)
    longest = max(lengths)
    filled = longest + -(first + longest) % _MULTIPLE
    return Rows(first, start + sizes.cumsum(0) - sizes, sizes, len(lengths), filled)


def _blocks(length: int) -> list[tuple[int, int]]:
    """Where blocks of positions begin and end. What is no whole block comes first, so that the
    keys up to the end of each are a multiple of 16."""
    stops = list(range(length, 0, -BLOCK))[::-1]
    return list(zip([0, *stops[:-1]], stops, strict=True))
