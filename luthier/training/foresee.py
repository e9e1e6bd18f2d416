"""What a stage of training will take, told before it begins: time, memory, and what would fit.

The batches are planned before the first step, so the tokens of every micro-batch are known; what a
token costs is `models/estimate.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.training.batches import micro_batches, plan

if TYPE_CHECKING:
    from luthier.models.estimate import Estimate
    from luthier.models.info import ModelInfo
    from luthier.models.machine import Machine
    from luthier.training.config import TrainingConfig
    from luthier.training.objective import StageObjective, TrainingItem


@dataclass(frozen=True)
class Foreseen:
    """What a stage will take.

    Attributes:
        seconds: of the training loop.
        epoch_seconds: of one pass over the data.
        peak_memory_bytes: of the process.
        fits: whether that memory is free now, with a tenth to spare.
        instead: where it is not, what would fit, as a sentence; else "".
        how: the arithmetic in words.
        typical: items of the micro-batch of the median size, by their places.
        typical_seconds: of that micro-batch, without the optimiser.
    """

    seconds: float
    epoch_seconds: float
    peak_memory_bytes: int
    fits: bool
    instead: str
    how: str
    typical: tuple[int, ...]
    typical_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """What train.json holds."""
        return {
            "seconds": round(self.seconds, 1),
            "peak_memory_bytes": self.peak_memory_bytes,
            "fits": self.fits,
        }


def foresee(
    info: ModelInfo,
    config: TrainingConfig,
    objective: StageObjective,
    items: Sequence[TrainingItem],
    *,
    machine: Machine | None = None,
    rate: float | None = None,
    held: int = 0,
) -> Foreseen:
    """What training on items will take on this machine.

    Args:
        info: of the model.
        config: of the stage.
        objective: knows what a micro-batch computes once.
        items: at least one.
        machine, rate, held: as for `estimate`.
    """
    from luthier.models.estimate import HAND_WRITTEN, estimate
    from luthier.models.machine import this_machine
    from luthier.training.method import METHODS
    from luthier.training.objectives.sft import pays

    machine = machine or this_machine()
    method = METHODS.get(config.method)
    fused = (
        config.fused
        and method.fused
        and objective.fused
        and config.unfreeze == "all"
        and info.kind == "causal"
        and info.model_type in HAND_WRITTEN
        and not machine.gpus
    )
    lengths, sizes = [item.length for item in items], objective.sizes(items)
    steps = plan(
        lengths,
        batch_size=config.batch_size,
        epochs=1,
        seed=config.seed,
        order=config.order,
    )
    parts = [micro_batches(rows, sizes, config.micro_tokens) for rows in steps]

    def computed(rows: Sequence[int]) -> int:
        own = [sizes[row] for row in rows]
        shared = min(lengths[row] - sizes[row] for row in rows)
        if fused:
            return sum(own) + shared
        return len(own) * max(own) + shared * (1 if pays(shared, len(rows)) else len(rows))

    every = [rows for step in parts for rows in step]
    tokens = [computed(rows) for rows in every]
    weight, total = sum(min(item.weight, item.length) for item in items), sum(tokens)
    squares = sum(length * length for length in lengths)

    def of(micro_tokens: int, use: Any = method.like, most: int | None = None) -> Estimate:
        return estimate(
            info,
            use,
            micro_tokens=micro_tokens,
            # what attention costs is quadratic in a row
            row_tokens=round(squares / sum(lengths)),
            trained_fraction=min(1.0, weight / total),
            rank=config.rank,
            precision=config.precision,
            machine=machine,
            rate=rate,
            fused=fused,
            held=held,
            micro_batches=most or max(len(step) for step in parts),
        )

    one = of(max(tokens))
    epoch = one.seconds(total, len(steps), len(tokens))
    if config.gradient_checkpointing:
        epoch *= 4 / 3  # the forward pass is computed twice
    instead = ""
    if not one.fits:
        room = machine.gpus[0].memory if machine.gpus else machine.memory_available
        smaller = of(max(1, max(lengths)), most=config.batch_size)
        lora = of(max(tokens), "lora")
        said = f"about {_gb(one.peak_memory_bytes)} of memory are needed, and {_gb(room)} are free"
        if smaller.fits:
            advice = (
                f"one example at a time needs {_gb(smaller.peak_memory_bytes)}, and training goes "
                "on with smaller micro-batches where memory runs out"
            )
        elif method.like == "full" and lora.fits:
            advice = f"--method lora needs {_gb(lora.peak_memory_bytes)}"
        else:
            advice = "training.gradient_checkpointing, --method qlora or a smaller model need less"
        instead = f"{said}; {advice}"
    passes = 1.0 if config.order == "given" else config.epochs
    middle = sorted(range(len(every)), key=lambda part: tokens[part])[len(every) // 2]
    return Foreseen(
        epoch * passes,
        epoch,
        one.peak_memory_bytes,
        one.fits,
        instead,
        one.how,
        tuple(every[middle]),
        one.seconds(tokens[middle], 0, 1) * (4 / 3 if config.gradient_checkpointing else 1),
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
