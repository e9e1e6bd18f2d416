"""The learning-rate range test: one short stretch of training in which the rate grows.

Smith 2017, "Cyclical learning rates for training neural networks" (arXiv 1506.01186, section 3.3):
while the rate is too low the loss stands, then it falls, and when the rate is too high it rises.
Here the rate grows by the same factor from step to step, as in later practice (Howard and
Gugger 2020, "fastai", arXiv 2002.04688), with the task's own batches, clipping and optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig
    from luthier.training.objective import Objective, TrainingItem

#: The file in the stage's folder.
RANGE_TEST = "range_test.json"
STEPS = 50
#: How far below and above the method's default rate the test reaches.
BELOW, ABOVE = 1e-3, 1e2
#: Weight of the past in the smoothed loss.
_PAST = 0.8
#: The test ends when the smoothed loss is so many times its lowest.
_TOO_HIGH = 3.0
#: Less fall than this share of the first loss is taken for noise.
_LEAST_FALL = 0.02


@dataclass(frozen=True)
class RangeTest:
    """What a range test found.

    Attributes:
        rates: of each step.
        losses: of each step, before its update; mean over trained tokens, in nats.
        smoothed: exponential moving average of the losses, without its bias to zero.
        steepest: the rate at which the smoothed loss falls fastest, per decade of the rate.
        minimum: the rate at which it is lowest.
        suggested: the lower of `steepest` and a tenth of `minimum`: both rules are in use, each
            errs upwards on noisy losses, and too low a rate costs less than too high a one. None
            when the loss never fell.
        default: what the stage would use without being told.
    """

    method: str
    default: float
    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    steepest: float | None
    minimum: float | None
    suggested: float | None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; range_test.json holds them."""
        return asdict(self)


def growing(lowest: float, highest: float, steps: int) -> list[float]:
    """`steps` rates from `lowest` to `highest`, each the same factor above the one before.

    Raises:
        ValueError: fewer than two steps, or rates that do not grow.
    """
    if steps < 2 or not 0 < lowest < highest:
        raise ValueError("at least two steps and 0 < lowest < highest are needed")
    factor = (highest / lowest) ** (1 / (steps - 1))
    return [lowest * factor**step for step in range(steps)]


def smooth(losses: Sequence[float], past: float = _PAST) -> list[float]:
    """s_k = (past * m_{k-1} + (1 - past) * x_k) / (1 - past^(k+1)), m being the numerators: the
    bias-corrected average of Adam (Kingma and Ba 2015, section 3)."""
    mean, out = 0.0, []
    for count, loss in enumerate(losses, 1):
        mean = past * mean + (1 - past) * loss
        out.append(mean / (1 - past**count))
    return out


def suggest(
    rates: Sequence[float], smoothed: Sequence[float]
) -> tuple[float | None, float | None, float | None]:
    """(steepest, minimum, suggested), as `RangeTest` describes them; Nones where nothing fell.

    Args:
        rates: rising, (n,).
        smoothed: the loss at each, (n,).
    """
    if len(rates) < 3:
        return None, None, None
    lowest = min(range(len(smoothed)), key=lambda i: smoothed[i])
    if lowest == 0 or smoothed[0] - smoothed[lowest] < _LEAST_FALL * abs(smoothed[0]):
        return None, None, None
    # central differences over the logarithm of the rate, up to the minimum
    slopes = {
        i: (smoothed[i + 1] - smoothed[i - 1]) / math.log10(rates[i + 1] / rates[i - 1])
        for i in range(1, min(lowest + 1, len(rates) - 1))
    }
    steepest = rates[min(slopes, key=lambda i: slopes[i])]
    minimum = rates[lowest]
    return steepest, minimum, min(steepest, minimum / 10)


def sweep(
    model: Any,
    objective: Objective,
    items: Sequence[TrainingItem],
    config: TrainingConfig,
    rates: Sequence[float],
    *,
    report: Callable[[int, float, float], None] | None = None,
) -> list[float]:
    """The loss of each step while the rate takes the given values; weights are put back after.

    Ends early when the loss is not finite or its average three times the lowest.

    Args:
        model: ready to be trained, in the precision it computes in.
        objective: turns items into a summed loss.
        items: what the batches are made of.
        config: batch size, clipping, weight decay, precision and seed.
        rates: one for each optimiser step.
        report: called with (step from 1, rate, loss).

    Returns:
        Mean losses over trained tokens, each before its step's update.

    Raises:
        TrainingError: no example has a trained token.
    """
    import torch

    from luthier.training.batches import micro_batches, plan
    from luthier.training.loop import TrainingError, trainable
    from luthier.training.optimizer import MasterAdamW

    weights, sizes = [item.weight for item in items], objective.sizes(items)
    if not any(weights):
        raise TrainingError(
            "None of the examples has a trained token.",
            fix="Check `data.output` and `training.loss_on`.",
        )
    per_epoch = math.ceil(len(items) / config.batch_size)
    batches = plan(
        [item.length for item in items],
        batch_size=config.batch_size,
        epochs=len(rates) / per_epoch + 1,
        seed=config.seed,
    )
    batches = [rows for rows in batches if any(weights[row] for row in rows)]
    optimizer = MasterAdamW(trainable(model), weight_decay=config.weight_decay, l2_sp=config.l2_sp)
    start = {name: master.detach().clone() for name, master in optimizer.masters.items()}
    torch.manual_seed(config.seed)
    model.train()
    losses: list[float] = []
    for step, rate in enumerate(rates):
        rows = [row for row in batches[step % len(batches)] if weights[row]]
        valid = sum(weights[row] for row in rows)
        total = 0.0
        for part in micro_batches(rows, sizes, config.micro_tokens):
            loss = objective.loss(model, [items[row] for row in part])
            (loss / valid).backward()
            optimizer.collect()
            total += float(loss.detach())
        losses.append(total / valid)
        norm = optimizer.clip(config.max_grad_norm)
        if report:
            report(step + 1, rate, losses[-1])
        if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
            losses.pop()
            break
        averages = smooth(losses)
        if averages[-1] > _TOO_HIGH * min(averages):
            break
        optimizer.step(rate)
    optimizer.discard()
    optimizer.load({f"master.{name}": value for name, value in start.items()})
    model.eval()
    return losses
