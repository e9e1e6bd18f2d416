"""AdamW on float32 masters of whatever precision the model computes in.

In bfloat16 a weight of 1 cannot be changed by less than 0.004, so small updates would vanish. The
optimiser therefore keeps float32 copies, adds up gradients in float32, and copies the result down.

A step of one micro-batch adds up nothing: its gradients stay as they came until their parameter's
turn, and then are widened, a part at a time, in room that is used again. That saves 4 bytes for
each trained parameter, and a pass over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from luthier.models.allocator import lasting
from luthier.training.fused.native import PRECISIONS, Native, native
from luthier.training.remedies.l2_sp import Anchor

#: Keys of Adam's parameter groups that are decided here.
_OWN = frozenset({"params", "weight_decay", "multiple"})
#: Gradients that are widened at once, in elements: small enough to stay in a cache.
_PART = 4_000_000
#: The same on a GPU, where every operation has a cost of its own before it begins.
_PART_ON_GPU = 500_000_000
#: Elements whose norm is taken at once, widened within the cache.
_PIECE = 500_000


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
        with lasting():
            self.masters = {
                name: torch.nn.Parameter(p.detach().to(torch.float32, copy=True))
                for name, p in self.parameters.items()
            }
        self._anchor = Anchor(self.masters, l2_sp)
        self._weight_decay = weight_decay
        self._multiples: dict[str, float] = {}
        #: gradients of the step's only micro-batch, in the model's precision
        self._narrow: dict[str, torch.Tensor] = {}
        self._room: torch.Tensor | None = None
        #: what gradients are multiplied by at the next update
        self._coefficient = 1.0
        self._on_gpu = any(master.is_cuda for master in self.masters.values())
        self._native = self._compiled()
        self._adam = torch.optim.AdamW(self._groups(), lr=0.0, fused=True)
        # what Adam would make in its first step would lie between what that step computes
        with lasting():
            for master in self.masters.values():
                self._adam.state[master] = {
                    "step": torch.zeros((), dtype=torch.float32, device=master.device),
                    "exp_avg": torch.zeros_like(master, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(master, memory_format=torch.preserve_format),
                }

    def _compiled(self) -> Native | None:
        """What runs the update in one pass, where it can."""
        known = all(
            p.device.type == "cpu" and p.dtype in PRECISIONS for p in self.parameters.values()
        )
        return native() if known else None

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
        """Take the gradients of one micro-batch from the model, and add them up in float32."""
        for name, parameter in self.parameters.items():
            gradient, parameter.grad = parameter.grad, None
            if gradient is None or self._multiples.get(name) == 0.0:
                continue
            if gradient.is_sparse:  # an embedding whose head took no part in the loss
                gradient = gradient.to_dense()
            master = self.masters[name]
            if master.grad is None and name not in self._narrow:
                self._narrow[name] = gradient
                continue
            self._widen(name)
            assert master.grad is not None
            master.grad += gradient

    def widen(self) -> None:
        """Make every gradient of the step so far the float32 gradient of its master."""
        for name in list(self._narrow):
            self._widen(name)

    def _widen(self, name: str) -> None:
        if name in self._narrow:
            gradient = self._narrow.pop(name)
            wide = torch.empty_like(self.masters[name])
            self.masters[name].grad = wide.copy_(gradient)

    def discard(self) -> None:
        """Forget the gradients collected so far: the step is begun again."""
        self._narrow.clear()
        for held in (*self.parameters.values(), *self.masters.values()):
            held.grad = None

    @torch.no_grad()
    def clip(self, largest: float) -> float:
        """Have `step` scale the gradients so that their norm is at most `largest`.

        Returns:
            The norm before, in float32.
        """
        wide = [m.grad for m in self.masters.values() if m.grad is not None]
        if self._on_gpu:
            every = [*wide, *self._narrow.values()]
            norms = list(torch._foreach_norm(every, 2, torch.float32)) if every else []
            return self._clipped(norms, largest)
        if self._native:
            squares = [self._squares(g) for g in (*wide, *self._narrow.values()) if g.numel()]
            norm = math.sqrt(float(torch.cat(squares).sum())) if squares else 0.0
            return self._clipped([torch.tensor(norm)], largest)
        # pieces that are widened within the cache
        pieces = (
            piece for g in (*wide, *self._narrow.values()) for piece in g.flatten().split(_PIECE)
        )
        norms = [torch.linalg.vector_norm(piece, dtype=torch.float32) for piece in pieces]
        return self._clipped(norms, largest)

    def _squares(self, gradient: torch.Tensor) -> torch.Tensor:
        """Sums of squares, of 65,536 values each, in float64."""
        assert self._native
        out = torch.empty(-(-gradient.numel() // 65_536), dtype=torch.float64)
        self._native("squares", gradient.dtype, gradient.numel(), gradient.contiguous(), out)
        return out

    def _clipped(self, norms: list[torch.Tensor], largest: float) -> float:
        norm = float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
        # as torch.nn.utils.clip_grad_norm_ has it
        self._coefficient = min(1.0, largest / (norm + 1e-6))
        return norm

    def step(self, learning_rate: float) -> None:
        """One update, copied down to the model."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate * group["multiple"]
        self._anchor.pull(self.masters, learning_rate, self._multiples)
        if self._native:
            self._step_natively(self._native)
            return
        # gradients are divided by this on the way, which saves a pass over them
        scaled = self._coefficient < 1
        divisor = torch.tensor(1 / self._coefficient) if scaled else None
        vars(self._adam).update(grad_scale=divisor, found_inf=torch.zeros(()) if scaled else None)
        for part in self._parts():
            self._place(part)
            self._adam.step()
            self._adam.zero_grad(set_to_none=True)
            self._copy_down(part)
        self._coefficient = 1.0

    @torch.no_grad()
    def _step_natively(self, run: Native) -> None:
        """The same in one pass over each parameter, whose gradient is widened on the way."""
        names = {id(master): name for name, master in self.masters.items()}
        for group in self._adam.param_groups:
            rate, decay = group["lr"], group["lr"] * group["weight_decay"]
            (beta1, beta2), epsilon = group["betas"], group["eps"]
            for master in group["params"]:
                name = names[id(master)]
                narrow = self._narrow.pop(name, None)
                if narrow is None and master.grad is None:
                    continue
                state = self._adam.state[master]
                state["step"] += 1
                steps = float(state["step"])
                parameter = self.parameters[name]
                rows, width, apart = _rows_of(parameter)
                narrow = None if narrow is None else narrow.contiguous()
                wide = None if master.grad is None else master.grad.contiguous()
                run(
                    *("adamw", parameter.dtype, rows, width, parameter if apart else None, apart),
                    *(narrow, wide, master, state["exp_avg"], state["exp_avg_sq"]),
                    *(self._coefficient, 1 - beta1, 1 - beta2, rate / (1 - beta1**steps)),
                    *(math.sqrt(1 - beta2**steps), epsilon, 1 - decay),
                )
                master.grad = None
                if not apart:
                    parameter.copy_(master)
                else:
                    torch.autograd.graph.increment_version(parameter)
        self._coefficient = 1.0

    def _parts(self) -> list[list[str]]:
        """Names of parameters to update together: those whose gradients are wide already at once,
        as many of the others as fit into `_PART`."""
        wide = [name for name, master in self.masters.items() if master.grad is not None]
        parts, room = [wide] if wide else [], 0
        for name, gradient in self._narrow.items():
            if not room or gradient.numel() > room:
                parts.append([])
                room = _PART_ON_GPU if self._on_gpu else _PART
            parts[-1].append(name)
            room = max(0, room - gradient.numel())
        return parts

    @torch.no_grad()
    def _place(self, part: list[str]) -> None:
        """Widen the gradients of a part, in room that the next part uses again."""
        narrow = {name: self._narrow.pop(name) for name in part if name in self._narrow}
        needed = sum(gradient.numel() for gradient in narrow.values())
        if narrow and (self._room is None or self._room.numel() < needed):
            some = next(iter(narrow.values()))
            self._room = torch.empty(needed, dtype=torch.float32, device=some.device)
        start = 0
        for name, gradient in narrow.items():
            assert self._room is not None
            wide = self._room[start : start + gradient.numel()].view(gradient.shape)
            self.masters[name].grad = wide.copy_(gradient)
            start += gradient.numel()

    @torch.no_grad()
    def copy_down(self) -> None:
        """Give the model its masters' values."""
        self._copy_down(list(self.parameters))

    @torch.no_grad()
    def _copy_down(self, names: list[str]) -> None:
        if self._on_gpu:
            down = [self.parameters[name].detach() for name in names]
            torch._foreach_copy_(down, [self.masters[name].detach() for name in names])
            return
        for name in names:
            self.parameters[name].copy_(self.masters[name])

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that must be stored to go on exactly."""
        out = {f"master.{name}": m.detach() for name, m in self.masters.items()}
        for name, master in self.masters.items():
            state = self._adam.state[master]
            if state["step"]:  # not those that never had a gradient
                out |= {f"adam.{key}.{name}": value for key, value in state.items()}
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


def _rows_of(parameter: torch.Tensor) -> tuple[int, int, int]:
    """(rows, values of each, distance of rows) of what a parameter's memory is; the distance is 0
    where it is no such thing."""
    if parameter.is_contiguous():
        return 1, parameter.numel(), max(1, parameter.numel())
    if parameter.ndim == 2 and parameter.stride(1) == 1:
        return parameter.shape[0], parameter.shape[1], parameter.stride(0)
    return 1, parameter.numel(), 0


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
