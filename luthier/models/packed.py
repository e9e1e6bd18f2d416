"""Linear layers that only answer, with their weights laid out for the processor once.

torch's matrix product takes a weight as it lies and lays it out anew in every call, which for the
few rows of a decoding step costs more than the product. Here oneDNN lays each weight out once for
as long as the model lives. That takes the memory of the weights once more, and is done where there
is plenty. Outside `packed`, and wherever something does not fit, layers run as they are.
"""

from __future__ import annotations

import contextlib
import platform
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear

from luthier.models.machine import this_machine

#: Smaller weights gain nothing.
_SMALLEST = 1 << 16
#: Free memory over that of the packed weights, so that none of what else is loaded runs short.
_SPARE = 4
#: Values of a weight that are compared to see whether it was changed.
_SAMPLED = 61
#: Rows that layouts are chosen for; they serve any number.
_ROWS = 1024

_HELD: weakref.WeakKeyDictionary[Any, _Packed] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def packed(model: Any) -> Iterator[bool]:
    """Have a model's large linear layers run by packed weights while the block lasts.

    For inference alone. Use it where nothing else runs the model at the same time. Weights that
    were changed since the last time are packed anew.

    Args:
        model: any torch module.

    Yields:
        whether it does.
    """
    held = _HELD.get(model)
    if held is None or not held.current():
        held = _Packed(model)
        _HELD[model] = held
    with held.running() as running:
        yield running


def room_for(size: int, available: int) -> bool:
    """Whether weights of `size` bytes are laid out on a machine with so much free memory: on a
    processor that oneDNN is made for, where there is plenty."""
    return (
        _SPARE * size <= available
        and platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()
    )


class _Packed:
    def __init__(self, model: Any) -> None:
        self._layers: list[tuple[weakref.ref[Any], _State, Callable[..., Any]]] = []
        found = [module for module in model.modules() if _fits(module)]
        size = sum(module.weight.numel() * module.weight.element_size() for module in found)
        if not found or not room_for(size, this_machine().memory_available):
            return
        try:
            with torch.inference_mode():
                forwards = [_forward(module) for module in found]
                if not all(_agree(*pair) for pair in zip(found[:2], forwards[:2], strict=True)):
                    return
        except (RuntimeError, NotImplementedError, AttributeError):  # another build of torch
            return
        self._layers = [
            (weakref.ref(module), _State.of(module), forward)
            for module, forward in zip(found, forwards, strict=True)
        ]

    def current(self) -> bool:
        """Whether no weight was changed since."""
        modules = ((ref(), state) for ref, state, _ in self._layers)
        return all(module is not None and state.holds(module) for module, state in modules)

    @contextlib.contextmanager
    def running(self) -> Iterator[bool]:
        set_: list[Any] = []
        try:
            for ref, _, forward in self._layers:
                module = ref()
                # something else may stand there by now, or this same block around this one
                if module is not None and "forward" not in module.__dict__:
                    module.__dict__["forward"] = forward
                    set_.append(module)
            yield bool(self._layers)
        finally:
            for module in set_:
                module.__dict__.pop("forward", None)


def _fits(module: Any) -> bool:
    """Whether a module is a large plain linear layer."""
    return (
        type(module) is torch.nn.Linear
        and module.weight.device.type == "cpu"
        and module.weight.dtype in (torch.float32, torch.bfloat16)
        and module.weight.numel() >= _SMALLEST
        and not module.weight.is_inference()  # whose changes nobody counts
        and "forward" not in module.__dict__
    )


@dataclass(frozen=True, eq=False)
class _State:
    """By what a change of a weight is noticed.

    Attributes:
        place: where it lies, and how often it was changed as far as torch counts.
        sample: some of its values: what is written by way of `.data`, as merging an adapter does,
            is not counted.
    """

    place: tuple[int, int]
    sample: torch.Tensor

    @classmethod
    def of(cls, module: Any) -> _State:
        weight = module.weight.detach()
        step = weight.numel() // _SAMPLED
        return cls((weight.data_ptr(), module.weight._version), _sampled(weight, step).clone())

    def holds(self, module: Any) -> bool:
        weight = module.weight.detach()
        if self.place != (weight.data_ptr(), module.weight._version):
            return False
        return torch.equal(self.sample, _sampled(weight, weight.numel() // _SAMPLED))


def _sampled(weight: torch.Tensor, step: int) -> torch.Tensor:
    return weight.flatten()[::step]


def _forward(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    laid_out = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), _ROWS)
    ref = weakref.ref(module)

    def forward(x: torch.Tensor) -> torch.Tensor:
        own = ref()
        assert own is not None  # it is running
        if torch.is_grad_enabled() or not x.numel() or x.dtype != laid_out.dtype:
            return linear(x, own.weight, own.bias)
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, laid_out, own.bias, "none", [], ""
        )
        return out

    return forward


def _agree(module: Any, forward: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether both ways give the same, up to rounding."""
    weight = module.weight.detach()
    x = torch.linspace(-1, 1, 3 * weight.shape[1]).view(3, -1).to(weight.dtype)
    bound = 1e-4 if weight.dtype == torch.float32 else 2e-2
    one, other = linear(x, weight, module.bias).float(), forward(x).float()
    return bool((one - other).abs().max() <= bound * one.abs().max().clamp(min=1e-6))
