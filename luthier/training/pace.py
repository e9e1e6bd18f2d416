"""How long an epoch takes, by a trial of the model as it will be trained; and how many fit.

`foresee.py` reckons from operations and the rate of matrix products, before anything is loaded.
What share of that rate small layers reach differs between models and processors by a factor of two
or three, which would decide how many epochs a small encoder is given. So where the budget may not
reach for all epochs, one micro-batch is run forwards and backwards, and its time against what was
reckoned for it corrects the epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError
from luthier.files import read_json, write_json

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig
    from luthier.training.foresee import Foreseen
    from luthier.training.objective import StageObjective, TrainingItem

#: Where all epochs would take more than this share of the time by reckoning, a trial is made.
_DOUBT = 0.5
#: Micro-batches of a trial: the first one's time is that of allocating, and of compiling on a GPU.
_TRIALS = 3


def epoch_seconds(
    model: Any,
    objective: StageObjective,
    items: Sequence[TrainingItem],
    config: TrainingConfig,
    foreseen: Foreseen,
) -> float:
    """Seconds of one pass over the items, after a trial of the micro-batch of the median size.

    Nothing is changed by it: gradients are thrown away, and the loop seeds random numbers anew.

    Args:
        model: prepared for training.
        objective: of the stage.
        items: all that will be trained on.
        config: of the stage.
        foreseen: of the same items.
    """
    import torch

    from luthier.training.fused.model import fusing
    from luthier.training.memory import ran_out
    from luthier.training.recompute import recomputing

    some = [items[row] for row in foreseen.typical if items[row].weight]
    if not some:
        return foreseen.epoch_seconds
    again, was_training = config.gradient_checkpointing, model.training
    spent: list[float] = []
    try:
        with (
            fusing(model, config.fused and config.unfreeze == "all", recompute=again) as fast,
            recomputing(model, again and not fast),
        ):
            model.train()
            for _ in range(_TRIALS):
                began = time.perf_counter()
                objective.loss(model, some).backward()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                spent.append(time.perf_counter() - began)
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        return foreseen.epoch_seconds  # the loop knows what to do about it, and says so
    finally:
        model.zero_grad(set_to_none=True)
        model.train(was_training)
        objective.taken()
    return foreseen.epoch_seconds * min(spent[1:]) / foreseen.typical_seconds


def within_budget(
    config: TrainingConfig,
    *,
    reckoned: float,
    tried: Callable[[], float],
    minutes: float,
    memory: Path,
    identity: str,
) -> tuple[TrainingConfig, list[str]]:
    """Fewer epochs, where all of them would take longer than there is time; at least one.

    The rate is measured anew each time, so what was decided is remembered: an interrupted stage
    continues with the same plan.

    Args:
        config: with the epochs that would be trained given time.
        reckoned: seconds of one epoch, by arithmetic.
        tried: gives them by a trial, which is made where it may matter.
        minutes: what training may take.
        memory: where the decision is written down.
        identity: of the stage that the decision is for.

    Returns:
        (the config with the epochs there is time for, notes for the report).
    """
    decided = _decided(memory, identity)
    if decided is None:
        seconds = reckoned
        if config.epochs > 1 and config.epochs * reckoned > _DOUBT * 60 * minutes:
            seconds = tried()
        affordable = max(1.0, float(int(60 * minutes / seconds)))
        decided = min(config.epochs, affordable), seconds
        write_json(memory, {"identity": identity, "epochs": decided[0], "epoch_seconds": seconds})
    epochs, seconds = decided
    if epochs >= config.epochs:
        return config, []
    said = f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"
    return config.model_copy(update={"epochs": epochs}), [
        f"{epochs:g} instead of {config.epochs:g} epochs, to stay within the budget (an epoch "
        f"takes about {said} s)."
    ]


def _decided(memory: Path, identity: str) -> tuple[float, float] | None:
    """(epochs, seconds of one) that an interrupted stage of this identity decided for."""
    if not memory.is_file():
        return None
    try:
        stored = read_json(memory)
        if stored["identity"] == identity:
            return float(stored["epochs"]), float(stored["epoch_seconds"])
    except (InputError, KeyError, TypeError, ValueError):
        pass  # damaged, or of an earlier version: decide anew
    return None
