"""PiSSA (Meng et al. 2024, arXiv 2404.02948): an adapter that begins as the principal part of the
weights it stands beside.

W = U S V^T is cut after the r largest singular values: s B0 A0 = U_r S_r V_r^T, and the frozen
weights become the rest, W - s B0 A0 (equations 2 to 4). So training moves the directions that carry
most, and the base is no longer the base. What is stored is therefore the difference that training
made, on the base as it was: s (B A - B0 A0), which is a plain LoRA of rank 2 r (section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

#: Rounds of the randomised singular value decomposition (Halko et al. 2011); the paper finds its
#: training loss that of the exact one (table 5), in seconds instead of minutes.
_ROUNDS = 16
_INITIAL = "_luthier_pissa_initial"


@torch.no_grad()
def start(adapted: Any) -> None:
    """Begin every LoRA layer of a peft model with the principal part of its weights.

    In bfloat16 the two factors are rounded first and the rest is taken from what they then are, so
    that the whole differs from the base by one rounding and no more.
    """
    from peft.tuners.lora import LoraLayer

    initial: dict[str, torch.Tensor] = {}
    names = {parameter: name for name, parameter in adapted.named_parameters()}
    for layer in adapted.modules():
        if not isinstance(layer, LoraLayer):
            continue
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        weight = layer.get_base_layer().weight
        original, precision = weight.data, a.dtype
        layer.pissa_init("default", f"pissa_niter_{_ROUNDS}")
        for factor in (a, b):
            factor.data = factor.data.to(precision)
            initial[names[factor]] = factor.detach().float().clone()
        principal = layer.scaling["default"] * (b.float() @ a.float())
        stored_transposed = getattr(layer, "fan_in_fan_out", False)
        rest = original.float() - (principal.T if stored_transposed else principal)
        weight.data = rest.to(original.dtype)
    setattr(adapted, _INITIAL, initial)


def converted(
    adapted: Any, weights: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What to store so that it means the same on the base as it was.

    Args:
        adapted: a peft model.
        weights: values of its trained parameters, by name.

    Returns:
        (the tensors, what changes in peft's config): of another kind of adapter both as they are.
    """
    initial: dict[str, torch.Tensor] | None = getattr(adapted, _INITIAL, None)
    if initial is None:
        return dict(weights), {}
    out = {}
    for name, value in weights.items():
        before = initial[name].to(value.device)
        if "lora_A" in name:  # (r, in) twice, one above the other
            out[name] = torch.cat([value, before], dim=0)
        else:  # (out, r) twice, side by side
            out[name] = torch.cat([value, -before], dim=1)
    config = adapted.peft_config["default"]
    # alpha / r stays what it was
    return out, {"r": 2 * config.r, "lora_alpha": 2 * config.lora_alpha}
