"""One Llama layer, forward and backward by hand.

    m = h + O(attention(rope(QKV(norm(h)))))        out = m + D(silu(G(norm(m))) * U(norm(m)))

Written out, the backward pass needs no gradient of a frozen weight, keeps only what it cannot
cheaply compute again, and runs a third of the operations that automatic differentiation of the
layer's modules runs. Tokens of all rows lie one below the other in (n, hidden), without padding:
first the prefix that the rows share (p of them, may be 0), then the rows, whatever their lengths.
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

#: Places of a group over its tokens. Each group is some thirty operations a layer.
_PADDED = 1.25


@dataclass(frozen=True)
class Group:
    """Rows that lie one after another and attend together.

    Attributes:
        tokens: where they lie among the n tokens.
        rows: b.
        length: l, of the longest.
        real: where each of the tokens stands among the b * l places that attention computes; None
            where all rows have l tokens.
    """

    tokens: slice
    rows: int
    length: int
    real: Tensor | None

    def spread(self, x: Tensor) -> Tensor:
        """(n, w) to (b, l, w) of these rows, with zeros on the right of the shorter ones."""
        own = x[self.tokens]
        if self.real is not None:
            places = x.new_zeros(self.rows * self.length, x.shape[1])
            own = places.index_copy_(0, self.real, own)
        return own.view(self.rows, self.length, -1)

    def room(self, x: Tensor) -> Tensor:
        """A (b, l, w) to be written and then given to `gather`: where possible, x itself."""
        if self.real is None:
            return x[self.tokens].view(self.rows, self.length, -1)
        return x.new_empty(self.rows, self.length, x.shape[1])

    def gather(self, room: Tensor, x: Tensor) -> None:
        """Write what stands in `room` to the rows' tokens in x (n, w), padding left out."""
        if self.real is not None:
            x[self.tokens] = room.flatten(0, 1).index_select(0, self.real)


def groups_of(lengths: Sequence[int], first: int, device: torch.device) -> tuple[Group, ...]:
    """Neighbours of similar length together, so that padding is at most a fifth of a group.

    Args:
        lengths: of the rows, one after another.
        first: tokens before them.
        device: for the indices.
    """
    groups: list[Group] = []
    rows: list[int] = []
    for length in [*lengths, 0]:
        widest, total = max([*rows, length]), sum(rows) + length
        if rows and (not length or (len(rows) + 1) * widest > _PADDED * total):
            groups.append(_group(rows, first, device))
            first += sum(rows)
            rows = []
        rows.append(length)
    return tuple(groups)


def _group(rows: Sequence[int], first: int, device: torch.device) -> Group:
    longest = max(rows)
    real = None
    if min(rows) < longest:
        places = torch.arange(longest)[None] < torch.tensor(rows)[:, None]
        real = places.flatten().nonzero()[:, 0].to(device)
    return Group(slice(first, first + sum(rows)), len(rows), longest, real)


@dataclass(frozen=True)
class Shape:
    """How the n tokens of a micro-batch lie, and where they stand.

    Attributes:
        prefix: p, tokens that all rows begin with.
        groups: of the rows, in order. Tokens behind the last one fill up the matrices: they attend
            to nothing, and nothing is asked of them.
        cos, sin: (p + longest l, 1, head_dim / 2), of every position.
    """

    prefix: int
    groups: tuple[Group, ...]
    cos: Tensor
    sin: Tensor

    def parts(self) -> list[tuple[Group, int]]:
        """(tokens that attend together, the position of their first): prefix, then rows."""
        p = self.prefix
        alone = [(Group(slice(0, p), 1, p, None), 0)] if p else []
        return [*alone, *((group, p) for group in self.groups)]

    @property
    def filling(self) -> slice:
        """The tokens behind the last group."""
        return slice(self.groups[-1].tokens.stop, None)


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
    """What the backward pass needs of tokens that attend together."""

    group: Group
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
    spans = _attention(layer, qkv, shape, ou[:, : layer.attention_out.inputs])
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


def _attention(layer: Layer, qkv: Tensor, shape: Shape, out: Tensor) -> list[_Span]:
    """Attend, and write the result (n, heads * head_dim) into `out`."""
    g, h = layer.heads
    d = layer.head_dim
    queries = g * h
    spans: list[_Span] = []
    for group, first in shape.parts():
        b, length = group.rows, group.length
        own = group.spread(qkv).unflatten(2, (queries + 2 * h, d))
        cos, sin = shape.cos[first : first + length], shape.sin[first : first + length]
        q = own.new_empty(b, queries, length, d)
        k = own.new_empty(b, h, first + length, d)
        v = own.new_empty(b, h, first + length, d)
        rotate(own[:, :, :queries], cos, sin, q.transpose(1, 2))
        rotate(own[:, :, queries : queries + h], cos, sin, k[:, :, first:].transpose(1, 2))
        v[:, :, first:].copy_(own[:, :, queries + h :].transpose(1, 2))
        if first:
            k[:, :, :first], v[:, :, :first] = spans[0].k, spans[0].v
        q = q.view(b, h, g, length, d)
        o, p = attend(q, k, v, d**-0.5)
        room = group.room(out)
        room.unflatten(2, (queries, d)).copy_(o.view(b, queries, length, d).transpose(1, 2))
        group.gather(room, out)
        spans.append(_Span(group, first, q, k, v, p))
    out[shape.filling] = 0
    return spans


def _attention_backward(layer: Layer, d_out: Tensor, spans: list[_Span], shape: Shape) -> Tensor:
    """Gradient of the (n, (g h + 2 h) d) that `_attention` was given."""
    g, h = layer.heads
    d = layer.head_dim
    queries = g * h
    d_qkv = d_out.new_empty(d_out.shape[0], (queries + 2 * h) * d)
    of_prefix: list[Tensor] | None = None
    while spans:
        span = spans.pop()
        group, first = span.group, span.first
        b, length = group.rows, group.length
        d_o = group.spread(d_out).unflatten(2, (queries, d))
        d_o = d_o.transpose(1, 2).contiguous().view(b, h, g, length, d)
        d_q, d_k, d_v = attend_backward(d_o, span.q, span.k, span.v, span.p, d**-0.5)
        if first:
            # every row looked at the prefix, so its gradient is the sum over them
            sums = [
                one[:, :, :first].sum(0, keepdim=True, dtype=torch.float32) for one in (d_k, d_v)
            ]
            of_prefix = [a + b for a, b in zip(of_prefix, sums, strict=True)] if of_prefix else sums
        elif of_prefix:
            d_k, d_v = ((a + b).to(a.dtype) for a, b in zip((d_k, d_v), of_prefix, strict=True))
        room = group.room(d_qkv)
        own = room.unflatten(2, (queries + 2 * h, d))
        cos, sin = shape.cos[first : first + length], -shape.sin[first : first + length]
        rotate(d_q.view(b, queries, length, d).transpose(1, 2), cos, sin, own[:, :, :queries])
        rotate(d_k[:, :, first:].transpose(1, 2), cos, sin, own[:, :, queries : queries + h])
        own[:, :, queries + h :].copy_(d_v[:, :, first:].transpose(1, 2))
        group.gather(room, d_qkv)
    d_qkv[shape.filling] = 0
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
