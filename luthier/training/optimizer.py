"""AdamW on float32 masters of whatever precision the model computes in.

In bfloat16 a weight of 1 cannot be changed by less than 0.004, so small updates would vanish. The
optimiser therefore keeps float32 copies, adds up gradients in float32, and copies the result down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch


class MasterAdamW:
    """AdamW (Loshchilov & Hutter 2019) over named parameters.

    Args:
        parameters: name -> trainable parameter, in the model's precision.
        weight_decay: applied to matrices, never to vectors (norms and biases).
    """

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], *, weight_decay: float = 0.0
    ) -> None:
        self.parameters = dict(parameters)
        self.masters = {
            name: torch.nn.Parameter(p.detach().to(torch.float32, copy=True))
            for name, p in self.parameters.items()
        }
        matrices = [m for m in self.masters.values() if m.ndim > 1]
        vectors = [m for m in self.masters.values() if m.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, fused=True)

    def collect(self) -> None:
        """Add the gradients of one micro-batch to the float32 sums, and free them."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            master = self.masters[name]
            if master.grad is None:
                master.grad = parameter.grad.to(torch.float32, copy=True)
            else:
                master.grad += parameter.grad
            parameter.grad = None

    def clip(self, largest: float) -> float:
        """Scale the gradients so that their norm is at most `largest`; returns the norm before."""
        with_gradient = [m for m in self.masters.values() if m.grad is not None]
        return float(torch.nn.utils.clip_grad_norm_(with_gradient, largest))

    def step(self, learning_rate: float) -> None:
        """One update, copied down to the model."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self.copy_down()

    @torch.no_grad()
    def copy_down(self) -> None:
        """Give the model its masters' values."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.masters[name])

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that must be stored to go on exactly."""
        out = {f"master.{name}": m.detach() for name, m in self.masters.items()}
        for name, master in self.masters.items():
            for key, value in self._adam.state.get(master, {}).items():
                out[f"adam.{key}.{name}"] = value
        return out

    @torch.no_grad()
    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """The inverse of `state`."""
        for name, master in self.masters.items():
            master.copy_(state[f"master.{name}"])
            held = {
                key: state[f"adam.{key}.{name}"].to(master.device, copy=True)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"adam.{key}.{name}" in state
            }
            if held:
                self._adam.state[master] = held
        self.copy_down()


def learning_rate_at(step: int, steps: int, *, peak: float, warmup: float) -> float:
    """Linear warm-up over a fraction of the steps, then half a cosine down to zero.

    Args:
        step: the step about to be taken, from 0.
        steps: how many there are.
        peak: the highest rate.
        warmup: the fraction of steps spent rising.
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
