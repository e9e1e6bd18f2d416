"""One Llama layer, forward and backward by hand.

    m = h + O(attention(rope(QKV(norm(h)))))        out = m + D(silu(G(norm(m))) * U(norm(m)))

Written out, the backward pass needs no gradient of a frozen weight, keeps only what it cannot
cheaply compute again, and runs a third of the operations that automatic differentiation of the
layer's modules runs. Tokens of all rows lie one below the other in (n, hidden): first the prefix
that the rows share (p of them, may be 0), then the rows (b times l).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from luthier.training.fused.attention import attend, attend_backward, rotate
from luthier.training.fused.linear import Joined
from luthier.training.fused.norm import norm_backward, norm_into


@dataclass(frozen=True)
class Shape:
    """How the n = p + b * l tokens of a micro-batch lie, and where they stand.

    Attributes:
        cos, sin: (p + l, 1, head_dim / 2), of every position.
    """

    prefix: int
    rows: int
    length: int
    cos: Tensor
    sin: Tensor


@dataclass(eq=False)
class Layer:
    """The weights of one layer.

    Attributes:
        heads: query heads for each key head, and key heads.
        norms: the two norm weights, each (hidden).
        keep: False keeps only the layer's input and computes the rest again when it is needed.
    """

    heads: tuple[int, int]
    head_dim: int
    norms: tuple[Tensor, Tensor]
    epsilons: tuple[float, float]
    attention_in: Joined
    attention_out: Joined
    gate_up: Joined
    down: Joined
    keep: bool = True

    @property
    def joined(self) -> tuple[Joined, ...]:
        """In the order their gradients are returned."""
        return self.attention_in, self.attention_out, self.gate_up, self.down

    @property
    def parameters(self) -> list[Tensor]:
        """All of them, norms first."""
        return [*self.norms, *(p for part in self.joined for p in part.parameters)]

    def __call__(self, hidden: Tensor, shape: Shape) -> Tensor:
        """(n, hidden) to (n, hidden), with a gradient."""
        out: Tensor = _LayerFunction.apply(hidden, self, shape, *self.parameters)
        return out


@dataclass
class _Kept:
    """What the forward pass leaves for the backward pass."""

    attention_in: Tensor
    spans: list[_Span]
    attention_out: Tensor
    middle: Tensor
    gate_up_in: Tensor
    gate_up: Tensor
    down_u: Tensor
    scales: list[Tensor] = field(default_factory=list)


@dataclass
class _Span:
    """Tokens that attend alike: the prefix, or the rows after it."""

    tokens: slice
    rows: int
    length: int
    first: int
    q: Tensor
    k: Tensor
    v: Tensor
    p: Tensor | None


class _LayerFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, layer: Layer, shape: Shape, *parameters: Tensor
    ) -> Tensor:
        del parameters
        out, kept = _forward(layer, hidden, shape)
        ctx.layer, ctx.shape, ctx.hidden = layer, shape, hidden
        ctx.kept = kept if layer.keep else None
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Any, ...]:
        layer, shape, hidden = ctx.layer, ctx.shape, ctx.hidden
        kept = ctx.kept or _forward(layer, hidden, shape)[1]
        ctx.kept = ctx.hidden = None
        d_hidden, gradients = _backward(layer, hidden, shape, kept, d_out, ctx.needs_input_grad[0])
        return (d_hidden, None, None, *gradients)


def _forward(layer: Layer, hidden: Tensor, shape: Shape) -> tuple[Tensor, _Kept]:
    n = hidden.shape[0]
    xu = layer.attention_in.room(n)
    first_scale = norm_into(xu, hidden, layer.norms[0], layer.epsilons[0])
    qkv = layer.attention_in.forward(xu)
    ou = layer.attention_out.room(n)
    spans = _attention(layer, qkv, shape, ou)
    del qkv
    middle = layer.attention_out.forward(ou, added_to=hidden)
    yu = layer.gate_up.room(n)
    second_scale = norm_into(yu, middle, layer.norms[1], layer.epsilons[1])
    gate_up = layer.gate_up.forward(yu)
    au = layer.down.room(n)
    width = layer.down.inputs
    gate, up = gate_up[:, :width], gate_up[:, width:]
    torch.mul(functional.silu(gate), up, out=au[:, :width])
    out = layer.down.forward(au, added_to=middle)
    kept = _Kept(
        xu,
        spans,
        ou,
        middle,
        yu,
        gate_up,
        au[:, width:].clone(),
        [first_scale, second_scale],
    )
    return out, kept


def _spans(shape: Shape) -> list[tuple[slice, int, int, int]]:
    """(tokens, rows, length, first position) of the prefix and of the rows after it."""
    after = (slice(shape.prefix, None), shape.rows, shape.length, shape.prefix)
    return [(slice(0, shape.prefix), 1, shape.prefix, 0), after] if shape.prefix else [after]


def _attention(layer: Layer, qkv: Tensor, shape: Shape, out: Tensor) -> list[_Span]:
    """Attend, and write the result (n, heads * head_dim) into the first columns of `out`."""
    g, h = layer.heads
    d = layer.head_dim
    queries, keys = g * h, h
    spans: list[_Span] = []
    for tokens, b, length, first in _spans(shape):
        own = qkv[tokens].view(b, length, queries + 2 * keys, d)
        cos, sin = shape.cos[first : first + length], shape.sin[first : first + length]
        q = own.new_empty(b, queries, length, d)
        k = own.new_empty(b, keys, first + length, d)
        v = own.new_empty(b, keys, first + length, d)
        rotate(own[:, :, :queries], cos, sin, q.transpose(1, 2))
        rotate(own[:, :, queries : queries + keys], cos, sin, k[:, :, first:].transpose(1, 2))
        v[:, :, first:].copy_(own[:, :, queries + keys :].transpose(1, 2))
        if first:
            k[:, :, :first], v[:, :, :first] = spans[0].k, spans[0].v
        q = q.view(b, h, g, length, d)
        o, p = attend(q, k, v, d**-0.5)
        place = out[tokens, : queries * d].unflatten(0, (b, length)).unflatten(2, (queries, d))
        place.copy_(o.view(b, queries, length, d).transpose(1, 2))
        spans.append(_Span(tokens, b, length, first, q, k, v, p))
    return spans


def _attention_backward(layer: Layer, d_out: Tensor, spans: list[_Span], shape: Shape) -> Tensor:
    """Gradient of the (n, (g h + 2 h) d) that `_attention` was given."""
    g, h = layer.heads
    d = layer.head_dim
    queries = g * h
    n = d_out.shape[0]
    d_qkv = d_out.new_empty(n, (queries + 2 * h) * d)
    from_rows: tuple[Tensor, Tensor] | None = None
    while spans:
        span = spans.pop()
        b, length, first = span.rows, span.length, span.first
        d_o = d_out[span.tokens].unflatten(0, (b, length)).unflatten(2, (queries, d))
        d_o = d_o.transpose(1, 2).contiguous().view(b, h, g, length, d)
        d_q, d_k, d_v = attend_backward(d_o, span.q, span.k, span.v, span.p, d**-0.5)
        if from_rows:
            d_k += from_rows[0]
            d_v += from_rows[1]
        if first:
            # every row looked at the prefix, so its gradient is the sum over them
            from_rows = tuple(  # type: ignore[assignment]
                one[:, :, :first].sum(0, keepdim=True, dtype=torch.float32).to(one.dtype)
                for one in (d_k, d_v)
            )
        own = d_qkv[span.tokens].view(b, length, queries + 2 * h, d)
        cos, sin = shape.cos[first : first + length], -shape.sin[first : first + length]
        rotate(d_q.view(b, queries, length, d).transpose(1, 2), cos, sin, own[:, :, :queries])
        rotate(d_k[:, :, first:].transpose(1, 2), cos, sin, own[:, :, queries : queries + h])
        own[:, :, queries + h :].copy_(d_v[:, :, first:].transpose(1, 2))
    return d_qkv


def _backward(
    layer: Layer, hidden: Tensor, shape: Shape, kept: _Kept, d_out: Tensor, wanted: bool
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Gradients of the input (None unless wanted) and of `layer.parameters`."""
    # out = middle + down(silu(gate) * up)
    width = layer.down.inputs
    gate, up = kept.gate_up[:, :width], kept.gate_up[:, width:]
    d_act, d_u = layer.down.input_gradient(d_out)
    silu = functional.silu(gate)
    au = layer.down.room(d_out.shape[0])
    torch.mul(silu, up, out=au[:, :width])
    au[:, width:] = kept.down_u
    of_down = layer.down.gradients(d_out, d_u, au)
    del au
    d_act = layer.down.finish(d_act, d_u)
    d_gate_up = torch.empty_like(kept.gate_up)
    torch.mul(d_act, silu, out=d_gate_up[:, width:])
    d_gate = torch.mul(d_act, up, out=silu)
    torch.ops.aten.silu_backward.grad_input(d_gate, gate, grad_input=d_gate_up[:, :width])
    del d_act, silu, gate, up, d_gate
    # gate, up = gate_up(norm(middle))
    d_y, d_u = layer.gate_up.input_gradient(d_gate_up)
    of_gate_up = layer.gate_up.gradients(d_gate_up, d_u, kept.gate_up_in)
    d_y = layer.gate_up.finish(d_y, d_u)
    del d_gate_up
    d_middle, of_second = norm_backward(
        d_y, kept.middle, layer.norms[1], kept.scales[1], added_to=d_out
    )
    # middle = hidden + out(attention(in(norm(hidden))))
    d_o, d_u = layer.attention_out.input_gradient(d_middle)
    of_out = layer.attention_out.gradients(d_middle, d_u, kept.attention_out)
    d_o = layer.attention_out.finish(d_o, d_u)
    d_qkv = _attention_backward(layer, d_o, kept.spans, shape)
    d_x, d_u = layer.attention_in.input_gradient(d_qkv)
    of_in = layer.attention_in.gradients(d_qkv, d_u, kept.attention_in)
    d_hidden, of_first = None, None
    if wanted or layer.norms[0].requires_grad:
        d_x = layer.attention_in.finish(d_x, d_u)
        d_hidden, of_first = norm_backward(
            d_x, hidden, layer.norms[0], kept.scales[0], added_to=d_middle
        )
    norms: Sequence[Tensor | None] = (of_first, of_second)
    return d_hidden, [*norms, *of_in, *of_out, *of_gate_up, *of_down]
