"""Several linear layers that read the same input, with their LoRA matrices, as one matrix product.

For outputs y_j = x W_j^T + s_j (x A_j^T) B_j^T, j = 1..k, of one x (Hu et al. 2021, arXiv
2106.09685, equation 3), the weights are kept in one matrix

    W = [ W_1 | B_1  0  ]        and   A = [ A_1 ]
        [ W_2 |  0  B_2 ]                  [ A_2 ]

so that with u = (x A^T) * s all outputs are [x | u] W^T, and backward dy W is [dx' | du] in one
product as well: of the thin products of LoRA, which are slow for what they compute, three remain.
The model's own parameters become views of W and A. So an optimiser's update of B is in W at once,
and the layers can still be run one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """One linear layer: `weight` (o, i), `bias` (o) or None, and the adapter if it has one."""

    weight: Tensor
    bias: Tensor | None
    a: Tensor | None
    b: Tensor | None
    scale: float


class Joined:
    """Linear layers with one input, joined.

    Attributes:
        inputs: i, the width of x.
        rank: r, of all adapters together; 0 for none.
        parameters: those of all parts, in a fixed order, to be given to an autograd function.
    """

    @torch.no_grad()
    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self.inputs = int(parts[0].weight.shape[1])
        ranks = [0 if part.a is None else int(part.a.shape[0]) for part in parts]
        self.rank = sum(ranks)
        rows = [int(part.weight.shape[0]) for part in parts]
        model = parts[0].weight
        self.weight = model.new_zeros(sum(rows), self.inputs + self.rank)
        self.down = model.new_zeros(self.rank, self.inputs)
        self._rows: list[slice] = []
        self._ranks: list[slice] = []
        top, left = 0, 0
        for part, height, width in zip(parts, rows, ranks, strict=True):
            own, low = slice(top, top + height), slice(left, left + width)
            _move(part.weight, self.weight[own, : self.inputs])
            if part.a is not None and part.b is not None:
                _move(part.a, self.down[low])
                columns = slice(self.inputs + left, self.inputs + left + width)
                _move(part.b, self.weight[own, columns])
            self._rows.append(own)
            self._ranks.append(low)
            top, left = top + height, left + width
        self.scale = torch.cat(
            [model.new_full((rank,), part.scale) for part, rank in zip(parts, ranks, strict=True)]
        )
        biased = [part for part in parts if part.bias is not None]
        self._has_bias = bool(biased)

    @property
    def parameters(self) -> list[Tensor]:
        """Weight, bias, A, B of every part that has them."""
        return [
            p
            for part in self.parts
            for p in (part.weight, part.bias, part.a, part.b)
            if p is not None
        ]

    def room(self, rows: int) -> Tensor:
        """An empty (rows, i + r) for [x | u]."""
        return self.weight.new_empty(rows, self.inputs + self.rank)

    def forward(self, xu: Tensor, added_to: Tensor | None = None) -> Tensor:
        """Fill in u, and return the outputs (n, o), side by side.

        Args:
            xu: (n, i + r) from `room`, x filled in.
            added_to: (n, o), the residual stream.
        """
        self.fill(xu)
        if added_to is not None:
            return torch.addmm(added_to, xu, self.weight.t())
        if self._has_bias:
            return torch.addmm(self._bias(), xu, self.weight.t())
        return torch.mm(xu, self.weight.t())

    def fill(self, xu: Tensor) -> None:
        """Put u = (x A^T) * s behind x."""
        if self.rank:
            u = torch.mm(xu[:, : self.inputs], self.down.t())
            torch.mul(u, self.scale, out=xu[:, self.inputs :])

    def input_gradient(self, d_y: Tensor) -> tuple[Tensor, Tensor]:
        """[dx' | du]: what `finish` makes dx of.

        Args:
            d_y: (n, o).

        Returns:
            (dx' (n, i), without what comes through A; du (n, r), scaled).
        """
        both = torch.mm(d_y, self.weight)
        return both[:, : self.inputs], both[:, self.inputs :] * self.scale

    def finish(self, d_x: Tensor, d_u: Tensor) -> Tensor:
        """dx = dx' + du A, in place."""
        return d_x.addmm_(d_u, self.down) if self.rank else d_x

    def gradients(self, d_y: Tensor, d_u: Tensor, xu: Tensor) -> list[Tensor | None]:
        """Of `parameters`, in their order; None for frozen ones.

        Args:
            d_y: (n, o).
            d_u: (n, r), from `input_gradient`.
            xu: (n, i + r), as `forward` left it.
        """
        x = xu[:, : self.inputs]
        d_a = d_b = None
        if self.rank:
            d_a = torch.mm(d_u.t(), x)
            # the products of one part's output with another's u are computed and left unused:
            # one product with a few columns more beats several thin ones
            d_b = torch.mm(d_y.t(), xu[:, self.inputs :])
        # where all weights are trained, their gradients are rows of one product
        whole = len(self.parts) > 1 and all(part.weight.requires_grad for part in self.parts)
        d_weight = torch.mm(d_y.t(), x) if whole else None
        out: list[Tensor | None] = []
        for part, rows, low in zip(self.parts, self._rows, self._ranks, strict=True):
            if d_weight is not None:
                out.append(d_weight[rows])
            else:
                open_weight = part.weight.requires_grad
                out.append(torch.mm(d_y[:, rows].t(), x) if open_weight else None)
            if part.bias is not None:
                open_bias = part.bias.requires_grad
                summed = d_y[:, rows].sum(0, dtype=torch.float32).to(d_y.dtype)
                out.append(summed if open_bias else None)
            if part.a is not None and d_a is not None and d_b is not None:
                out += [d_a[low], d_b[rows, low]]
        return out

    @torch.no_grad()
    def release(self) -> None:
        """Give every parameter storage of its own again."""
        for parameter in self.parameters:
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)

    def _bias(self) -> Tensor:
        pieces = [
            self.weight.new_zeros(part.weight.shape[0]) if part.bias is None else part.bias.detach()
            for part in self.parts
        ]
        return torch.cat(pieces)


def part_of(module: Any) -> Part | None:
    """What `Joined` needs of a linear layer, plain or with LoRA; None for anything else."""
    if type(module) is torch.nn.Linear:
        return Part(module.weight, module.bias, None, None, 1.0)
    base = getattr(module, "base_layer", None)
    active = getattr(module, "active_adapters", None)
    if type(base) is not torch.nn.Linear or not active or len(active) != 1:
        return None
    if not hasattr(module, "lora_A"):
        return None  # another kind of adapter
    name = active[0]
    plain = (
        type(module).__name__ == "Linear"
        and getattr(module, "lora_variant", {}).get(name) is None
        and not getattr(module, "merged", False)
        and not getattr(module, "disable_adapters", False)
        and set(module.lora_A) == {name}
        and type(module.lora_dropout[name]) is torch.nn.Identity
        and module.lora_A[name].bias is None
        and module.lora_B[name].bias is None
        and not module.use_dora.get(name, False)
        and base.weight.dtype == module.lora_A[name].weight.dtype
    )
    if not plain:
        return None
    return Part(
        base.weight,
        base.bias,
        module.lora_A[name].weight,
        module.lora_B[name].weight,
        float(module.scaling[name]),
    )


def _move(parameter: Tensor, place: Tensor) -> None:
    place.copy_(parameter.data)
    parameter.data = place
