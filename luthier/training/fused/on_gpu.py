"""What a layer is made of besides matrix products, on a GPU.

There the arithmetic between the products waits for memory, so each piece of it is one kernel
(torch.compile makes them), and attention is FlashAttention over rows of any length (Dao 2023, arXiv
2307.08691): no padding, no mask. Where Triton is not to be had the same functions run as they
stand; where FlashAttention is not, each row attends by PyTorch's own attention.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from luthier.training.fused.layer import Layer

#: The widest heads that FlashAttention takes.
_WIDEST_HEAD = 256


@dataclass(frozen=True)
class Rows:
    """How the n tokens of a micro-batch lie.

    Attributes:
        lengths: of the rows, one after another; what fills up the matrices is a row of its own.
        ends: (rows + 1,) int32, where rows begin and end.
        longest: of the lengths.
        cos, sin: (n, 1, head_dim / 2), of every token's position in its row.
    """

    lengths: tuple[int, ...]
    ends: Tensor
    longest: int
    cos: Tensor
    sin: Tensor


@dataclass
class _Attended:
    """What the backward pass of attention needs."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    #: of FlashAttention: (log-sum-exp, state of the random numbers, unused)
    flash: tuple[Tensor, Tensor, Tensor] | None


class OnGpu:
    """See `kernels.Kernels`."""

    shares_prefix = False
    norms_again = False

    def shape(self, inner: Any, lengths: Sequence[int], first: int, hidden: Tensor) -> Rows:
        """Where rows begin and end."""
        if first:
            raise ValueError("a shared prefix is for `OnCpu`")
        filling = hidden.shape[0] - sum(lengths)
        rows = (*lengths, filling) if filling else tuple(lengths)
        sizes = torch.tensor(rows)
        ends = functional.pad(sizes.cumsum(0), (1, 0))
        positions = torch.arange(hidden.shape[0]) - ends[:-1].repeat_interleave(sizes)
        cos, sin = inner.rotary_emb(hidden, positions.to(hidden.device)[None])
        half = cos.shape[-1] // 2
        return Rows(
            rows,
            ends.to(torch.int32).to(hidden.device),
            max(rows),
            cos[0, :, None, :half].contiguous(),
            sin[0, :, None, :half].contiguous(),
        )

    def norm(self, out: Tensor, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """See `Kernels`."""
        norm = _one_kernel(_norm, x)
        scale: Tensor = norm(out[:, : x.shape[1]], x.detach(), weight.detach(), epsilon)
        return scale

    def norm_backward(
        self, d_y: Tensor, x: Tensor, weight: Tensor, scale: Tensor, *, added_to: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See `Kernels`."""
        x = x.detach()
        d_x = _one_kernel(_norm_input, x)(d_y, x, weight.detach(), scale, added_to)
        if not weight.requires_grad:
            return d_x, None
        return d_x, _one_kernel(_norm_weight, x)(d_y, x, scale).to(weight.dtype)

    def gate(self, gate_up: Tensor, out: Tensor) -> None:
        """See `Kernels`."""
        gate, up = gate_up.chunk(2, 1)
        _one_kernel(_gate, gate_up)(gate, up, out[:, : gate.shape[1]])

    def gate_backward(self, gate_up: Tensor, d_act: Tensor, out: Tensor) -> Tensor:
        """See `Kernels`."""
        self.gate(gate_up, out)
        d_gate_up = torch.empty_like(gate_up)
        gate, up = gate_up.chunk(2, 1)
        d_gate, d_up = d_gate_up.chunk(2, 1)
        _one_kernel(_gate_gradient, gate_up)(gate, up, d_act, d_gate)
        _one_kernel(_gate, gate_up)(gate, d_act, d_up)  # the gradient of up is d_act silu(gate)
        return d_gate_up

    def attention(self, layer: Layer, qkv: Tensor, shape: Rows, out: Tensor) -> list[_Attended]:
        """See `Kernels`."""
        g, h = layer.heads
        d = layer.head_dim
        heads = qkv.view(qkv.shape[0], (g + 2) * h, d)
        turned = qkv.new_empty(qkv.shape[0], (g + 1) * h, d)
        _turn(heads[:, : (g + 1) * h], shape.cos, shape.sin, turned)
        q, k, v = turned[:, : g * h], turned[:, g * h :], heads[:, (g + 1) * h :]
        attended = _attend(q, k, v, shape, d**-0.5)
        out.copy_(attended.out.flatten(1))
        return [attended]

    def attention_backward(
        self, layer: Layer, d_out: Tensor, spans: list[_Attended], shape: Rows
    ) -> Tensor:
        """See `Kernels`."""
        g, h = layer.heads
        d = layer.head_dim
        held = spans.pop()
        d_out = d_out.reshape(d_out.shape[0], g * h, d)
        d_q, d_k, d_v = _attend_backward(d_out, held, shape, d**-0.5)
        d_qkv = d_out.new_empty(d_out.shape[0], (g + 2) * h, d)
        _turn(d_q, shape.cos, -shape.sin, d_qkv[:, : g * h])
        _turn(d_k, shape.cos, -shape.sin, d_qkv[:, g * h : (g + 1) * h])
        d_qkv[:, (g + 1) * h :] = d_v
        return d_qkv.flatten(1)


# ---- attention ---------------------------------------------------------------------------------


def _flashes(q: Tensor) -> bool:
    return (
        q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] <= _WIDEST_HEAD
    ) and torch.cuda.get_device_capability(q.device) >= (8, 0)


def _attend(q: Tensor, k: Tensor, v: Tensor, shape: Rows, scale: float) -> _Attended:
    """q (n, g h, d), k and v (n, h, d); every row attends to itself, causally."""
    if _flashes(q):
        out, lse, state, unused, _ = torch.ops.aten._flash_attention_forward(
            *(q, k, v, shape.ends, shape.ends, shape.longest, shape.longest),
            *(0.0, True, False),
            scale=scale,
        )
        return _Attended(q, k, v, out, (lse, state, unused))
    return _Attended(q, k, v, _row_by_row(q, k, v, shape.lengths, scale), None)


def _attend_backward(
    d_out: Tensor, held: _Attended, shape: Rows, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = held.q, held.k, held.v
    if held.flash:
        lse, state, unused = held.flash
        d_q, d_k, d_v = torch.ops.aten._flash_attention_backward(
            *(d_out, q, k, v, held.out, lse, shape.ends, shape.ends),
            *(shape.longest, shape.longest, 0.0, True, state, unused),
            scale=scale,
        )
        return d_q, d_k, d_v
    with torch.enable_grad():
        q, k, v = (one.detach().requires_grad_() for one in (q, k, v))
        out = _row_by_row(q, k, v, shape.lengths, scale)
        d_q, d_k, d_v = torch.autograd.grad(out, (q, k, v), d_out)
    return d_q, d_k, d_v


def _row_by_row(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], scale: float) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    outs = []
    for qs, ks, vs in zip(*(one.split(list(lengths)) for one in (q, k, v)), strict=True):
        ks, vs = (one.repeat_interleave(groups, dim=1) for one in (ks, vs))
        qs, ks, vs = (one.transpose(0, 1)[None] for one in (qs, ks, vs))
        one = functional.scaled_dot_product_attention(qs, ks, vs, is_causal=True, scale=scale)
        outs.append(one[0].transpose(0, 1))
    return torch.cat(outs)


# ---- pieces that become one kernel each --------------------------------------------------------
# What they write to is given to them, one tensor each: a part of a tensor that is cut out inside is
# read and written whole, and two parts of one tensor cannot be told apart.


def _norm(out: Tensor, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    out.copy_((wide * scale).to(x.dtype) * weight)
    return scale


def _norm_input(d_y: Tensor, x: Tensor, weight: Tensor, scale: Tensor, added_to: Tensor) -> Tensor:
    z = x.float() * scale
    t = (d_y * weight).float()
    along = (t * z).mean(-1, keepdim=True)
    return ((t - z * along) * scale + added_to.float()).to(x.dtype)


def _norm_weight(d_y: Tensor, x: Tensor, scale: Tensor) -> Tensor:
    return (x.float() * scale * d_y.float()).sum(0)


def _gate(gate: Tensor, up: Tensor, out: Tensor) -> None:
    wide = gate.float()
    out.copy_((wide * torch.sigmoid(wide)).to(up.dtype) * up)


def _gate_gradient(gate: Tensor, up: Tensor, d_act: Tensor, out: Tensor) -> None:
    wide = gate.float()
    share = torch.sigmoid(wide)
    out.copy_(d_act.float() * up.float() * (share + wide * share * (1 - share)))


def _turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Rotary position embedding, see `attention.rotate`; x and out (n, heads, d)."""
    first, second = x.chunk(2, -1)
    turn = _one_kernel(_half_turned, x)
    turn(first, second, cos, -sin, out[..., : first.shape[-1]])
    turn(second, first, cos, sin, out[..., first.shape[-1] :])


def _half_turned(x: Tensor, other: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    out.copy_(x.float() * cos + other.float() * sin)


def softmax_gradient(scores: Tensor, goals: Tensor) -> Tensor:
    """The summed cross-entropy of scores (n, v) against goals (n, 1), float32; the scores are
    overwritten with its gradient, softmax - one_hot."""
    loss: Tensor = _one_kernel(_softmax_gradient, scores)(scores, goals.clone())
    return loss


def _softmax_gradient(scores: Tensor, goals: Tensor) -> Tensor:
    wide = scores.float()
    total = torch.logsumexp(wide, -1, keepdim=True)
    loss = (total - scores.gather(1, goals).float()).sum()
    hit = torch.arange(scores.shape[1], device=scores.device) == goals
    scores.copy_((wide - total).exp() - hit.float())
    return loss


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)


@functools.cache
def _has_triton() -> bool:
    from torch.utils._triton import has_triton

    return bool(has_triton())


def _one_kernel(function: Callable[..., Any], sample: Tensor) -> Callable[..., Any]:
    """The function as one kernel where tensors like the sample can have that."""
    return _compiled(function) if sample.is_cuda and _has_triton() else function
