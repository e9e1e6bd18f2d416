"""What tells a run that has left the track, or goes nowhere, from one that is merely noisy."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping

import torch

#: Steps in a row that must stand above the level.
RISEN_STEPS = 10
#: Steps that the level is taken from, at least.
LEVEL_STEPS = 5
#: How far above the level: a factor, and where the loss is near zero an amount in nats.
FACTOR = 1.5
AMOUNT = 0.5
#: What training must change at least: so much of a tensor's own size, and of one that begins as
#: zeros (LoRA's B) so much of a size of a thousandth.
MOVED = 1e-6
#: Values of each tensor that are compared; a whole copy would be as large as the model.
_SAMPLED = 10_000


class DivergenceWatch:
    """Says when the loss has risen and stays up.

    A rate that is too high throws the loss up and does not let it come down again, long before
    anything stops being finite (the instabilities of Wortsman et al. 2023, arXiv 2309.14322, whose
    runs plateau above their starting loss; single spikes that recover, as in Chowdhery et al. 2022,
    arXiv 2204.02311, section 5.1, are not divergence). The level is the median of all losses before
    the last ten, at least five of them; training has diverged when each of the last ten is more
    than 1.5 times the level and more than 0.5 nats above it.

    Ten in a row is what noise does not do. A step whose loss is log-normal around the level with
    standard deviation 0.5 (rows of very different difficulty, one a batch) exceeds 1.5 times its
    median with probability 0.21, so ten in a row with 2e-7; with 0.25 it is 2e-13. Where the loss
    falls, the median of what was before is higher, and further away still.
    """

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self._window: list[float] = []
        self._before: list[float] = []  # sorted
        for loss in losses:
            self.add(loss)

    def add(self, loss: float) -> bool:
        """Take the loss of one more step, in nats per trained token; whether it has diverged."""
        self._window.append(loss)
        if len(self._window) > RISEN_STEPS:
            bisect.insort(self._before, self._window.pop(0))
        return (
            len(self._window) == RISEN_STEPS
            and len(self._before) >= LEVEL_STEPS
            and min(self._window) > self.limit
        )

    @property
    def suspicious(self) -> bool:
        """Whether the last loss stands above the limit. What is stored then may be ruined."""
        if not self._window:
            return False
        # early on, the level is taken from what there is
        return self._window[-1] > _limit(self._before or sorted(self._window[:LEVEL_STEPS]))

    @property
    def level(self) -> float:
        """The median of the losses before the last ten."""
        return _median(self._before)

    @property
    def limit(self) -> float:
        """What a loss must exceed to count as risen."""
        return _limit(self._before)


def _median(ordered: list[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _limit(ordered: list[float]) -> float:
    level = _median(ordered)
    return max(FACTOR * level, level + AMOUNT)


class Movement:
    """Whether training has changed anything, seen on values from all over every tensor.

    Args:
        tensors: what is trained, by name, before training.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._before = _samples(tensors)

    def any(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Whether a single value differs from the start."""
        return self._more_than(0.0, tensors)

    def enough(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Whether some tensor has moved by more than a millionth of itself (Euclidean norms)."""
        return self._more_than(MOVED, tensors)

    def _more_than(self, least: float, tensors: Mapping[str, torch.Tensor]) -> bool:
        for name, now in _samples(tensors).items():
            before = self._before[name]
            size = float(before.norm()) or 1e-3 * before.numel() ** 0.5
            if float((now - before).norm()) > least * size:
                return True
        return False


@torch.no_grad()
def _samples(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: tensor.flatten()[:: max(1, tensor.numel() // _SAMPLED)].to(torch.float32, copy=True)
        for name, tensor in tensors.items()
    }
