"""AdamW on float32 masters of whatever precision the model computes in.

In bfloat16 a weight of 1 cannot be changed by less than 0.004, so small updates would vanish. The
optimiser therefore keeps float32 copies, adds up gradients in float32, and copies the result down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from luthier.training.remedies.l2_sp import Anchor

#: Keys of Adam's parameter groups that are decided here.
_OWN = frozenset({"params", "weight_decay", "multiple"})


class MasterAdamW:
    """AdamW (Loshchilov & Hutter 2019) over named parameters.

    Args:
        parameters: name -> trainable parameter, in the model's precision.
        weight_decay: applied to matrices, never to vectors (norms and biases).
        l2_sp: strength of a pull back to the values at the start (`remedies/l2_sp.py`).
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        *,
        weight_decay: float = 0.0,
        l2_sp: float = 0.0,
    ) -> None:
        self.parameters = dict(parameters)
        self.masters = {
            name: torch.nn.Parameter(p.detach().to(torch.float32, copy=True))
            for name, p in self.parameters.items()
        }
        self._anchor = Anchor(self.masters, l2_sp)
        self._weight_decay = weight_decay
        self._multiples: dict[str, float] = {}
        self._adam = torch.optim.AdamW(self._groups(), lr=0.0, fused=True)

    def scale(self, multiples: Mapping[str, float]) -> None:
        """From now on multiply the learning rate of each named parameter; those that are not named
        keep it. With 0 a parameter is left alone: no gradient, no decay, no moments.
        """
        if multiples == self._multiples:
            return
        self._multiples = dict(multiples)
        rest = {k: v for k, v in self._adam.param_groups[0].items() if k not in _OWN}
        self._adam.param_groups = [{**rest, **group} for group in self._groups()]

    def _groups(self) -> list[dict[str, Any]]:
        """What Adam treats alike: by weight decay and by multiple of the learning rate."""
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for matrix in (True, False):
            for name, master in self.masters.items():
                if (master.ndim > 1) == matrix:
                    key = (self._weight_decay if matrix else 0.0, self._multiples.get(name, 1.0))
                    groups.setdefault(key, []).append(master)
        return [
            {"params": held, "weight_decay": decay, "multiple": multiple}
            for (decay, multiple), held in groups.items()
        ]

    def collect(self) -> None:
        """Add the gradients of one micro-batch to the float32 sums, and free them."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            if self._multiples.get(name) == 0.0:
                parameter.grad = None
                continue
            master = self.masters[name]
            if master.grad is None:
                master.grad = parameter.grad.to(torch.float32, copy=True)
            else:
                master.grad += parameter.grad
            parameter.grad = None

    def discard(self) -> None:
        """Forget the gradients collected so far: the step is begun again."""
        for held in (*self.parameters.values(), *self.masters.values()):
            held.grad = None

    def clip(self, largest: float) -> float:
        """Scale the gradients so that their norm is at most `largest`; returns the norm before."""
        with_gradient = [m for m in self.masters.values() if m.grad is not None]
        return float(torch.nn.utils.clip_grad_norm_(with_gradient, largest))

    def step(self, learning_rate: float) -> None:
        """One update, copied down to the model."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate * group["multiple"]
        self._anchor.pull(self.masters, learning_rate, self._multiples)
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
