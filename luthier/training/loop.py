"""The training loop: count tokens, normalise, check, step.

One loop for every method and objective. The loss of an optimiser step is the sum over its trained
tokens divided by their number over the whole step, all micro-batches together, so accumulation
changes memory and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from luthier.errors import LuthierError
from luthier.training.batches import micro_batches, plan
from luthier.training.checkpoints import Checkpoints
from luthier.training.config import TrainingConfig
from luthier.training.objective import Objective, TrainingItem
from luthier.training.optimizer import MasterAdamW, learning_rate_at

#: Values of each tensor that are compared to see whether training changed anything.
_SAMPLED = 10_000


class TrainingError(LuthierError):
    """Training that cannot go on: nothing to learn from, or numbers that left the finite."""


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did. Loss is the mean over trained tokens, in nats."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float


@dataclass
class Trained:
    """What a stage of training came to.

    Attributes:
        tokens: tokens read, padding not counted, repeats in later epochs counted.
        seconds: the loop's wall time, what went before an interruption included.
        curve: (step, loss) of every step.
        weights: name -> float32 values of the trained parameters.
    """

    steps: int
    tokens: int
    seconds: float
    final_loss: float
    curve: list[tuple[int, float]]
    weights: dict[str, torch.Tensor]
    notes: list[str] = field(default_factory=list)


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def fit(
    model: torch.nn.Module,
    objective: Objective,
    items: Sequence[TrainingItem],
    config: TrainingConfig,
    *,
    checkpoints: Checkpoints | None = None,
    report: Callable[[StepReport], None] | None = None,
) -> Trained:
    """Train `model`'s trainable parameters in place.

    Args:
        model: in the precision it computes in.
        objective: turns items into a summed loss.
        items: what to learn from.
        config: everything else.
        checkpoints: where to store and find interrupted work; None for none.
        report: called after every optimiser step.

    Raises:
        TrainingError: no item carries loss, or loss or gradients are not finite. The last good
            checkpoint is kept.
    """
    lengths = [item.length for item in items]
    weights = [item.weight for item in items]
    sizes = objective.sizes(items)
    if not any(weights):
        raise TrainingError(
            "None of the examples has a trained token: the loss mask is empty everywhere.",
            fix="Check `data.output` and `training.loss_on`.",
        )
    steps = plan(lengths, batch_size=config.batch_size, epochs=config.epochs, seed=config.seed)
    optimizer = MasterAdamW(trainable(model), weight_decay=config.weight_decay)
    before = _samples(optimizer)
    torch.manual_seed(config.seed)
    done, tokens, spent = 0, 0, 0.0
    curve: list[tuple[int, float]] = []
    notes: list[str] = []
    if checkpoints:
        found, notes = checkpoints.newest()
        if found:
            optimizer.load(found.tensors)
            _set_random(found.tensors)
            state = found.state
            done, tokens, spent = state["step"], state["tokens"], state["seconds"]
            curve = [(int(step), float(loss)) for step, loss in state["curve"]]
            notes.append(f"Continued after step {done} of {len(steps)}.")

    model.train()
    started = time.perf_counter() - spent
    for step in range(done, len(steps)):
        rows = steps[step]
        valid = sum(weights[row] for row in rows)
        if valid == 0:
            named = ", ".join(str(row + 1) for row in rows)
            raise TrainingError(f"A batch has no trained token (training examples {named}).")
        total = 0.0
        # what carries no loss need not be read
        rows = [row for row in rows if weights[row]]
        for part in micro_batches(rows, sizes, config.micro_tokens):
            loss = objective.loss(model, [items[row] for row in part])
            (loss / valid).backward()
            optimizer.collect()
            total += float(loss.detach())
        mean = total / valid
        norm = optimizer.clip(config.max_grad_norm)
        if not (math.isfinite(mean) and math.isfinite(norm)):
            kind = "loss" if not math.isfinite(mean) else "gradient"
            raise TrainingError(
                f"The {kind} is not finite at step {step + 1} of {len(steps)} "
                f"(learning rate {config.learning_rate:g}).",
                fix="Lower training.learning_rate, or set training.precision: float32.",
            )
        rate = learning_rate_at(step, len(steps), peak=config.learning_rate, warmup=config.warmup)
        optimizer.step(rate)
        tokens += sum(lengths[row] for row in rows)
        curve.append((step + 1, mean))
        seconds = time.perf_counter() - started
        if report:
            report(StepReport(step + 1, len(steps), mean, rate, norm, tokens, seconds))
        every = config.checkpoint_every
        if checkpoints and every and (step + 1) % every == 0 and step + 1 < len(steps):
            checkpoints.save(
                step + 1,
                {**optimizer.state(), **_random()},
                {"tokens": tokens, "seconds": seconds, "curve": curve},
            )
    model.eval()
    # the loss of a step is computed before its update, so the last update has not been looked at
    if not all(bool(m.isfinite().all()) for m in optimizer.masters.values()):
        raise TrainingError(
            f"Weights are not finite after step {len(steps)} of {len(steps)} "
            f"(learning rate {config.learning_rate:g}).",
            fix="Lower training.learning_rate, or set training.precision: float32.",
        )
    after = _samples(optimizer)
    if all(torch.equal(before[name], after[name]) for name in before):
        raise TrainingError("Training changed no weight.", fix="Raise training.learning_rate.")
    return Trained(
        steps=len(steps),
        tokens=tokens,
        seconds=time.perf_counter() - started,
        final_loss=curve[-1][1],
        curve=curve,
        weights={name: master.detach() for name, master in optimizer.masters.items()},
        notes=notes,
    )


@torch.no_grad()
def _samples(optimizer: MasterAdamW) -> dict[str, torch.Tensor]:
    """Some values of every trained tensor, from all over it; a whole copy would be as large as
    the model."""
    return {
        name: master.flatten()[:: max(1, master.numel() // _SAMPLED)].clone()
        for name, master in optimizer.masters.items()
    }


def _random() -> dict[str, torch.Tensor]:
    """Where the random numbers of dropout are, on the CPU and on the GPU."""
    state = {"rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["rng_cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random(state: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["rng"])
    if "rng_cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["rng_cuda"])
