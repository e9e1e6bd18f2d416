"""What a layer is made of besides matrix products; one implementation for each kind of device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from luthier.training.fused.layer import Layer


class Kernels(Protocol):
    """Tokens of all rows lie one below the other, n of them, without padding."""

    #: whether what all rows begin with can be computed once
    shares_prefix: bool
    #: whether a norm is cheap enough to be computed again in the backward pass, not kept
    norms_again: bool

    def shape(self, inner: Any, lengths: Sequence[int], first: int, hidden: Tensor) -> Any:
        """How the tokens lie and where they stand: what `attention` needs to know.

        Args:
            inner: the model's body, which has the rotary embedding.
            lengths: of the rows, one after another.
            first: tokens before them that all rows share.
            hidden: (n, hidden), for device and precision.
        """

    def norm(self, out: Tensor, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Root-mean-square normalisation of x (n, d) into the first d columns of `out`; gives the
        scales (n, 1), float32."""

    def norm_backward(
        self, d_y: Tensor, x: Tensor, weight: Tensor, scale: Tensor, *, added_to: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of x, added to another one, and of the weight (None when frozen)."""

    def gate(self, gate_up: Tensor, out: Tensor) -> None:
        """silu(gate) * up of (n, 2 w) into the first w columns of `out`."""

    def gate_backward(self, gate_up: Tensor, d_act: Tensor, out: Tensor) -> Tensor:
        """Gradient (n, 2 w) of gate and up, of that of their product (n, w); the product itself is
        written to `out` once more, as `gate` does."""

    def attention(self, layer: Layer, qkv: Tensor, shape: Any, out: Tensor) -> list[Any]:
        """Causal attention of each row to itself, of qkv (n, (g h + 2 h) d) into `out`
        (n, g h d); gives what the backward pass needs."""

    def attention_backward(
        self, layer: Layer, d_out: Tensor, spans: list[Any], shape: Any
    ) -> Tensor:
        """Gradient of qkv. Empties `spans`."""


def kernels_for(device: torch.device, dtype: torch.dtype) -> Kernels:
    """The implementation for a device and a precision."""
    if device.type == "cuda":
        from luthier.training.fused.on_gpu import OnGpu

        return OnGpu()
    from luthier.training.fused.native import PRECISIONS, native

    if dtype in PRECISIONS and (compiled := native()):
        from luthier.training.fused.on_cpu_native import OnCpuNative

        return OnCpuNative(compiled)
    from luthier.training.fused.on_cpu import OnCpu

    return OnCpu()
