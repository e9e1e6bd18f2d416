"""One stage of training as an arm asks for it: of its task, its rows and its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.arms.base import Workplace

if TYPE_CHECKING:
    from luthier.data.examples import Example
    from luthier.data.mixtures import Mixed
    from luthier.progress import Reporter
    from luthier.task_training import Training
    from luthier.training.stage import StageResult


def trained(
    place: Workplace,
    method: str,
    *,
    model: str | None = None,
    wishes: Training | None = None,
    examples: Sequence[Example] | None = None,
    validation: Sequence[Example] | None = None,
    mixture: Mixed | None = None,
    folder: Path | None = None,
    reporter: Reporter | None = None,
    watch: Callable[[int, int, float], None] | None = None,
) -> StageResult:
    """`train_stage` in an arm's place; what is left out is what the place has.

    Args:
        place: gives task, rows, folder, time and who hears of it.
        method: a name in METHODS.
        model: what is tuned instead of the task's model.
        wishes: instead of the task's training section.
        examples, validation, folder, reporter: instead of the place's.
        mixture, watch: see `train_stage`.

    Raises:
        InputError, ModelError, TrainingError: see their messages.
    """
    from luthier.training.stage import train_stage

    task = place.task
    return train_stage(
        model_name=task.model if model is None else model,
        base=task.folder,
        instruction=task.instruction,
        examples=place.train if examples is None else examples,
        wishes=task.wishes if wishes is None else wishes,
        method=method,
        seed=task.seed,
        folder=place.folder if folder is None else folder,
        reporter=place.reporter if reporter is None else reporter,
        minutes=place.minutes,
        validation=place.validation if validation is None else validation,
        mixture=mixture,
        watch=watch,
    )


def costs_of(stage: Mapping[str, Any]) -> dict[str, Any]:
    """`Fit.costs` of what train.json holds."""
    return {
        "train_seconds": stage["seconds"],
        "train_tokens_per_second": stage["tokens_per_second"],
        "trained_parameters": stage["trained_parameters"],
        "total_parameters": stage["total_parameters"],
        "train_peak_memory_bytes": stage["peak_memory_bytes"],
    }


def shown_of(stage: Mapping[str, Any]) -> dict[str, Any]:
    """`Fit.extra` of what train.json holds: what there is of it."""
    keys = ("validation", "best_step", "rates", "measured", "full_epochs")
    return {key: stage[key] for key in keys if stage.get(key)}
