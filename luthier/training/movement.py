"""How far training moved the weights, so that a stage that did nothing shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

#: Values of a tensor that its movement is estimated from; a whole copy would be as large as the
#: model.
_SAMPLED = 10_000
#: How many tensors are named.
_NAMED = 5


@dataclass(frozen=True)
class _Pair:
    """One adapted layer: its update is scale * B A, with B (out, r) and A (r, in)."""

    a: str
    b: str
    scale: float
    start_a: torch.Tensor
    start_b: torch.Tensor
    weight_norm: float


class Movement:
    """Remembers where training starts, and says how far it came.

    Of a low-rank adapter the change of the weights it stands beside is measured: the Frobenius norm
    of scale * (B A - B0 A0) over that of W. It needs no (out, in) matrix: with the stacked factors
    P = [B, -B0] and Q = [A; A0], ||P Q||^2 = sum((P^T P) * (Q Q^T)), both of width 2r. Of every
    other tensor, ||w - w0|| / ||w0|| over at most 10,000 of its values, evenly spread.

    Args:
        model: ready to be trained; its trained parameters have `requires_grad`.
    """

    @torch.no_grad()
    def __init__(self, model: torch.nn.Module) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._pairs = dict(_pairs(model, trained))
        paired = {name for pair in self._pairs.values() for name in (pair.a, pair.b)}
        self._starts = {
            name: _sample(p.detach()) for name, p in trained.items() if name not in paired
        }

    @torch.no_grad()
    def measure(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """How far the weights are from where they started.

        Args:
            weights: name -> value of the trained parameters.

        Returns:
            {"relative": norm of the whole update / norm of the weights it changes, or None where
            these were zero; "largest": [{"tensor", "relative"}], the most changed first}.
        """
        found: dict[str, tuple[float, float]] = {}
        for name, pair in self._pairs.items():
            a, b = (weights[key].float().to("cpu") for key in (pair.a, pair.b))
            left = torch.cat([b, -pair.start_b], dim=1)
            right = torch.cat([a, pair.start_a], dim=0)
            square = ((left.T @ left) * (right @ right.T)).sum().clamp(min=0)
            found[name] = (pair.scale * float(square.sqrt()), pair.weight_norm)
        for name, start in self._starts.items():
            if name in weights:
                # the sample stands for the whole tensor
                whole = (weights[name].numel() / max(1, start.numel())) ** 0.5
                moved = float((_sample(weights[name]) - start).norm())
                found[name] = (moved * whole, float(start.norm()) * whole)
        update = sum(moved**2 for moved, _ in found.values()) ** 0.5
        held = sum(norm**2 for _, norm in found.values()) ** 0.5
        shares = {name: moved / norm for name, (moved, norm) in found.items() if norm > 0}
        order = sorted(shares, key=lambda name: -shares[name])
        return {
            "relative": update / held if held > 0 else None,
            "largest": [{"tensor": name, "relative": shares[name]} for name in order[:_NAMED]],
        }


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    """At most about 10,000 values from all over a tensor, float32, on the CPU."""
    step = max(1, tensor.numel() // _SAMPLED)
    return tensor.detach().flatten()[::step].to("cpu", torch.float32, copy=True)


def _pairs(
    model: torch.nn.Module, trained: Mapping[str, torch.nn.Parameter]
) -> Iterator[tuple[str, _Pair]]:
    """The layers with a low-rank adapter whose two factors are trained."""
    for name, module in model.named_modules():
        scales = getattr(module, "scaling", None)
        if not isinstance(scales, Mapping) or "default" not in scales:
            continue
        a, b = (f"{name}.lora_{half}.default.weight" for half in "AB")
        if a not in trained or b not in trained or trained[a].ndim != 2:
            continue
        short = name.removeprefix("base_model.model.")
        start_a, start_b = (
            trained[key].detach().to("cpu", torch.float32, copy=True) for key in (a, b)
        )
        pair = _Pair(a, b, float(scales["default"]), start_a, start_b, _norm(module))
        yield f"{short}.weight", pair


def _norm(module: Any) -> float:
    """The Frobenius norm of the weights an adapter stands beside; those of 4 bits unpacked."""
    from peft.utils.integrations import dequantize_module_weight

    return float(dequantize_module_weight(module.get_base_layer()).float().norm())
