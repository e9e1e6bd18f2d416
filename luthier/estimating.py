"""What the arms of a task would take on this machine, before any of them is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from luthier.data.examples import Example
from luthier.data.linting import SAMPLE
from luthier.data.mixtures import SourceUse, mix, others, use_of
from luthier.data.prepare import Prepared
from luthier.progress import Reporter
from luthier.task import Task


def lora_of(
    task: Task, prepared: Prepared, info: Any, sizes: dict[str, int], instruction: int, share: float
) -> dict[str, float]:
    """Seconds and peak memory of fine-tuning with LoRA, the longest part of a usual run.

    Args:
        info: of the task's model.
        sizes: of the training rows in tokens: total, median, longest.
        instruction: its tokens, which a batch computes once.
        share: of the tokens that are trained.
    """
    from luthier.models.estimate import estimate
    from luthier.training.config import TrainingConfig, default_epochs

    fields = TrainingConfig.model_fields
    rows = len(prepared.splits.train)
    batch = min(rows, task.training.batch_size or fields["batch_size"].default)
    epochs = task.training.epochs or default_epochs(rows)
    steps = epochs * rows / batch
    tokens = epochs * sizes["total"] - instruction * (epochs * rows - steps)
    widest = instruction + batch * max(1, sizes["longest"] - instruction)
    lora = estimate(
        info,
        "lora",
        micro_tokens=min(widest, fields["micro_tokens"].default),
        row_tokens=max(16, sizes["median"]),
        trained_fraction=share,
        rank=task.training.rank or fields["rank"].default,
    )
    return {
        "seconds": round(lora.seconds(max(tokens, 1), steps), 1),
        "peak_memory_bytes": lora.peak_memory_bytes,
    }


def arms_of(task: Task, prepared: Prepared, info: Any) -> Iterator[dict[str, Any]]:
    """For each arm of a run: name, seconds (the least it needs, as the budget is planned with),
    peak_memory_bytes, and whether that fits; None where an arm does not use the task's model.

    Raises:
        InputError: `arms` names what is no arm, or one that cannot do this kind of task.
    """
    from luthier.arms.base import ARMS, Workplace
    from luthier.arms.planning import choose_arms
    from luthier.arms.tuned import TunedArm
    from luthier.arms.zero_shot import ZeroShot
    from luthier.models.estimate import Use, estimate
    from luthier.models.pool import ModelPool
    from luthier.training.method import METHODS

    splits = prepared.splits
    place = Workplace(
        task=task,
        train=splits.train,
        validation=splits.validation,
        labels=prepared.labels,
        folder=task.folder,  # nothing is written: no arm is fitted here
        pool=ModelPool(task.folder),
        reporter=Reporter(),
        minutes=task.budget.minutes,
    )
    for planned in choose_arms(task)[0]:
        arm = ARMS.get(planned.name)()
        use: Use | None = None
        if isinstance(arm, TunedArm):
            use = METHODS.get(arm.method).like
        elif isinstance(arm, ZeroShot):
            use = "prompt"
        taken = estimate(info, use) if use else None
        yield {
            "name": planned.name,
            "seconds": round(arm.least_seconds(place, len(splits.test)), 1),
            "peak_memory_bytes": taken.peak_memory_bytes if taken else None,
            "fits": taken.fits if taken else None,
        }


def mixture_of(
    task: Task, prepared: Prepared, count_tokens: Callable[[Example], int]
) -> list[SourceUse]:
    """What training takes of each task of the mixture; nothing where there is none.

    Args:
        count_tokens: of an example as it is trained; not asked of mixtures of more than
            `linting.SAMPLE` rows.

    Raises:
        InputError: another task of the mixture cannot be used.
    """
    from luthier.training.config import default_epochs

    if task.mixture is None:
        return []
    mixed = mix(task, prepared, others(task))
    rows = len(mixed.examples)
    draws = max(1, round((task.training.epochs or default_epochs(rows)) * rows))
    return use_of(mixed, draws, count_tokens if rows <= SAMPLE else None)
