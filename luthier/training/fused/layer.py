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

from luthier.training.fused.kernels import Kernels
from luthier.training.fused.linear import Joined


@dataclass(eq=False)
class Layer:
    """The weights of one layer.

    Attributes:
        heads: query heads for each key head, and key heads.
        kernels: what is computed besides matrix products, on the device the weights are on.
        norms: the two norm weights, each (hidden).
        keep: False keeps only the layer's input and computes the rest again when it is needed.
    """

    heads: tuple[int, int]
    head_dim: int
    kernels: Kernels
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

    def __call__(self, hidden: Tensor, shape: Any) -> Tensor:
        """(n, hidden) to (n, hidden), with a gradient."""
        out: Tensor = _LayerFunction.apply(hidden, self, shape, *self.parameters)
        return out


@dataclass
class _Kept:
    """What the forward pass leaves for the backward pass; of `attention_in` and `gate_up_in`, the
    inputs [x | u] of those products, see `_remembered`."""

    attention_in: Tensor
    spans: list[Any]
    attention_out: Tensor
    middle: Tensor
    gate_up_in: Tensor
    gate_up: Tensor
    down_u: Tensor
    scales: list[Tensor] = field(default_factory=list)


class _LayerFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, layer: Layer, shape: Any, *parameters: Tensor) -> Tensor:
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


def _forward(layer: Layer, hidden: Tensor, shape: Any) -> tuple[Tensor, _Kept]:
    n = hidden.shape[0]
    xu = layer.attention_in.room(n)
    first_scale = layer.kernels.norm(xu, hidden, layer.norms[0], layer.epsilons[0])
    qkv = layer.attention_in.forward(xu)
    ou = layer.attention_out.room(n)
    spans = layer.kernels.attention(layer, qkv, shape, ou[:, : layer.attention_out.inputs])
    del qkv
    middle = layer.attention_out.forward(ou, added_to=hidden)
    yu = layer.gate_up.room(n)
    second_scale = layer.kernels.norm(yu, middle, layer.norms[1], layer.epsilons[1])
    gate_up = layer.gate_up.forward(yu)
    au = layer.down.room(n)
    layer.kernels.gate(gate_up, au)
    out = layer.down.forward(au, added_to=middle)
    kept = _Kept(
        _remembered(layer, layer.attention_in, xu),
        spans,
        ou,
        middle,
        _remembered(layer, layer.gate_up, yu),
        gate_up,
        au[:, layer.down.inputs :].clone(),
        [first_scale, second_scale],
    )
    return out, kept


def _remembered(layer: Layer, joined: Joined, xu: Tensor) -> Tensor:
    """What is kept of [x | u], x being a norm's output."""
    return xu[:, joined.inputs :].clone() if layer.kernels.norms_again else xu


def _recalled(layer: Layer, which: int, kept: Tensor, x: Tensor) -> Tensor:
    """[x | u] again, of the norm's input."""
    if not layer.kernels.norms_again:
        return kept
    joined = (layer.attention_in, layer.gate_up)[which]
    xu = joined.room(x.shape[0])
    layer.kernels.norm(xu, x, layer.norms[which], layer.epsilons[which])
    xu[:, joined.inputs :] = kept
    return xu


def _backward(
    layer: Layer, hidden: Tensor, shape: Any, kept: _Kept, d_out: Tensor, wanted: bool
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Gradients of the input (None unless wanted) and of `layer.parameters`."""
    # out = middle + down(silu(gate) * up)
    d_act, d_u = layer.down.input_gradient(d_out)
    d_act = layer.down.finish(d_act, d_u)
    au = layer.down.room(d_out.shape[0])
    d_gate_up = layer.kernels.gate_backward(kept.gate_up, d_act, au)
    del d_act
    au[:, layer.down.inputs :] = kept.down_u
    of_down = layer.down.gradients(d_out, d_u, au)
    del au
    # gate, up = gate_up(norm(middle))
    d_y, d_u = layer.gate_up.input_gradient(d_gate_up)
    yu = _recalled(layer, 1, kept.gate_up_in, kept.middle)
    of_gate_up = layer.gate_up.gradients(d_gate_up, d_u, yu)
    d_y = layer.gate_up.finish(d_y, d_u)
    del d_gate_up, yu
    d_middle, of_second = layer.kernels.norm_backward(
        d_y, kept.middle, layer.norms[1], kept.scales[1], added_to=d_out
    )
    # middle = hidden + out(attention(in(norm(hidden))))
    d_o, d_u = layer.attention_out.input_gradient(d_middle)
    of_out = layer.attention_out.gradients(d_middle, d_u, kept.attention_out)
    d_o = layer.attention_out.finish(d_o, d_u)
    d_qkv = layer.kernels.attention_backward(layer, d_o, kept.spans, shape)
    d_x, d_u = layer.attention_in.input_gradient(d_qkv)
    xu = _recalled(layer, 0, kept.attention_in, hidden)
    of_in = layer.attention_in.gradients(d_qkv, d_u, xu)
    del xu
    d_hidden, of_first = None, None
    if wanted or layer.norms[0].requires_grad:
        d_x = layer.attention_in.finish(d_x, d_u)
        d_hidden, of_first = layer.kernels.norm_backward(
            d_x, hidden, layer.norms[0], kept.scales[0], added_to=d_middle
        )
    norms: Sequence[Tensor | None] = (of_first, of_second)
    return d_hidden, [*norms, *of_in, *of_out, *of_gate_up, *of_down]
