"""What a layer is made of besides matrix products, on a CPU.

Rows of similar length attend together, and the prefix that all rows share is attended to once.
Everything is written into memory that is there already: on a CPU fresh memory costs more than
arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from luthier.training.fused.attention import attend, attend_backward, rotate
from luthier.training.fused.norm import norm_backward, norm_into

if TYPE_CHECKING:
    from luthier.training.fused.layer import Layer

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


def rows_of(lengths: Sequence[int]) -> list[list[int]]:
    """Neighbours of similar length together, so that padding is at most a fifth of a group.

    Args:
        lengths: of the rows, one after another.
    """
    groups: list[list[int]] = []
    rows: list[int] = []
    for length in [*lengths, 0]:
        widest, total = max([*rows, length]), sum(rows) + length
        if rows and (not length or (len(rows) + 1) * widest > _PADDED * total):
            groups.append(rows)
            rows = []
        rows.append(length)
    return groups


def groups_of(lengths: Sequence[int], first: int, device: torch.device) -> tuple[Group, ...]:
    """`rows_of`, with where they lie.

    Args:
        lengths: of the rows, one after another.
        first: tokens before them.
        device: for the indices.
    """
    groups: list[Group] = []
    for rows in rows_of(lengths):
        groups.append(_group(rows, first, device))
        first += sum(rows)
    return tuple(groups)


def _group(rows: Sequence[int], first: int, device: torch.device) -> Group:
    longest = max(rows)
    real = None
    if min(rows) < longest:
        places = torch.arange(longest)[None] < torch.tensor(rows)[:, None]
        real = places.flatten().nonzero()[:, 0].to(device)
    return Group(slice(first, first + sum(rows)), len(rows), longest, real)


def with_rows(of_prefix: Sequence[Tensor], gradients: Sequence[Tensor], first: int) -> list[Tensor]:
    """The gradients of a prefix's keys and values, (h, first, d) in float32, with those of more
    rows added: every row looked at the prefix.

    Args:
        of_prefix: so far; empty before the first rows.
        gradients: of the rows' keys and values (b, h, first + l, d).
        first: tokens of the prefix.
    """
    sums = [one[:, :, :first].sum(0, dtype=torch.float32) for one in gradients]
    return [a + b for a, b in zip(of_prefix, sums, strict=True)] if of_prefix else sums


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


@dataclass
class _Span:
    """What the backward pass needs of tokens that attend together."""

    group: Group
    first: int
    q: Tensor
    k: Tensor
    v: Tensor
    p: Tensor | None


class OnCpu:
    """See `kernels.Kernels`."""

    shares_prefix = True
    norms_again = False

    def shape(self, inner: Any, lengths: Sequence[int], first: int, hidden: Tensor) -> Shape:
        """How the tokens lie, in groups of rows of similar length."""
        positions = torch.arange(first + max(lengths), device=hidden.device)[None]
        cos, sin = inner.rotary_emb(hidden, positions)
        half = cos.shape[-1] // 2
        groups = groups_of(lengths, first, hidden.device)
        return Shape(first, groups, cos[0, :, None, :half], sin[0, :, None, :half])

    def norm(self, out: Tensor, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """See `norm_into`."""
        return norm_into(out, x, weight, epsilon)

    def norm_backward(
        self, d_y: Tensor, x: Tensor, weight: Tensor, scale: Tensor, *, added_to: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See `norm.norm_backward`."""
        return norm_backward(d_y, x, weight, scale, added_to=added_to)

    def gate(self, gate_up: Tensor, out: Tensor) -> None:
        """See `Kernels`."""
        self._silu(gate_up, out)

    def gate_backward(self, gate_up: Tensor, d_act: Tensor, out: Tensor) -> Tensor:
        """See `Kernels`."""
        silu = self._silu(gate_up, out)
        width = gate_up.shape[1] // 2
        gate, up = gate_up[:, :width], gate_up[:, width:]
        d_gate_up = torch.empty_like(gate_up)
        torch.mul(d_act, silu, out=d_gate_up[:, width:])
        d_gate = torch.mul(d_act, up, out=silu)
        torch.ops.aten.silu_backward.grad_input(d_gate, gate, grad_input=d_gate_up[:, :width])
        return d_gate_up

    def _silu(self, gate_up: Tensor, out: Tensor) -> Tensor:
        """silu(gate), with silu(gate) * up written to `out`."""
        width = gate_up.shape[1] // 2
        silu = functional.silu(gate_up[:, :width])
        torch.mul(silu, gate_up[:, width:], out=out[:, :width])
        return silu

    def attention(self, layer: Layer, qkv: Tensor, shape: Shape, out: Tensor) -> list[_Span]:
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

    def attention_backward(
        self, layer: Layer, d_out: Tensor, spans: list[_Span], shape: Shape
    ) -> Tensor:
        """Gradient of the (n, (g h + 2 h) d) that `attention` was given."""
        g, h = layer.heads
        d = layer.head_dim
        queries = g * h
        d_qkv = d_out.new_empty(d_out.shape[0], (queries + 2 * h) * d)
        of_prefix: list[Tensor] = []
        while spans:
            span = spans.pop()
            group, first = span.group, span.first
            b, length = group.rows, group.length
            d_o = group.spread(d_out).unflatten(2, (queries, d))
            d_o = d_o.transpose(1, 2).contiguous().view(b, h, g, length, d)
            d_q, d_k, d_v = attend_backward(d_o, span.q, span.k, span.v, span.p, d**-0.5)
            if first:
                of_prefix = with_rows(of_prefix, (d_k, d_v), first)
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
