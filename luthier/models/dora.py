"""DoRA (Liu et al. 2024, arXiv 2402.09353), made safe where peft's divides by zero.

A layer's weights become m * (W + s B A) / ||W + s B A||, with one trained length m for every output
(equation 5). Where all weights of an output are zero, as in a pruned or padded model, the direction
is 0 / 0: not a number, in training, in what is stored and in what is merged. Here the length of a
direction is never less than `LEAST`, so such an output starts at zero and can learn.
"""

from __future__ import annotations

from typing import Any

import torch

#: The least length of the weights of an output. bfloat16 can hold it.
LEAST = 1e-6


def mend(adapted: Any) -> None:
    """Let every DoRA layer of a peft model measure lengths in float32, and none as zero.

    In bfloat16 a length and the trained one differ by steps of 0.4 %, which is more than training
    changes most of them by.
    """
    from peft.tuners.lora.dora import DoraLinearLayer

    class Mended(DoraLinearLayer):
        def get_weight_norm(
            self, weight: Any, lora_weight: Any, scaling: float, adapter_name: str | None = None
        ) -> torch.Tensor:
            """(out,) lengths of the rows of W + s B A, float32."""
            del adapter_name
            stored = weight.T if self.fan_in_fan_out else weight
            rows = stored + scaling * lora_weight
            lengths: torch.Tensor = torch.linalg.norm(rows, dim=1, dtype=torch.float32)
            return lengths.clamp_min(LEAST)

    for layer in _layers(adapted, DoraLinearLayer):
        layer.__class__ = Mended


@torch.no_grad()
def set_lengths(adapted: Any) -> None:
    """Start every trained length at that of the base's weights, in float32: B is zero, so the
    model says exactly what its base says."""
    for module in adapted.modules():
        for name, layer in getattr(module, "lora_magnitude_vector", {}).items():
            weight = module.get_base_layer().weight
            update = torch.zeros((), dtype=weight.dtype, device=weight.device)
            layer.weight.data = layer.get_weight_norm(weight, update, module.scaling[name])


def _layers(adapted: Any, kind: type) -> list[Any]:
    return [module for module in adapted.modules() if isinstance(module, kind)]
