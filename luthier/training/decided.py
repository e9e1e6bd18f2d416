"""The configuration that a stage trains with, of what a task asks for and what its model is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from luthier.training.config import TrainingConfig, decide

if TYPE_CHECKING:
    from luthier.models.info import ModelInfo
    from luthier.task_training import Training
    from luthier.training.objective import StageObjective


def decided_for(
    model_name: str,
    base: Path | None,
    wishes: Training,
    *,
    method: str,
    examples: int,
    seed: int,
) -> tuple[StageObjective, ModelInfo, TrainingConfig]:
    """(the objective, what is known of the model, the configuration), before anything is loaded.

    Args:
        model_name: catalogue name, folder or hub id of what is tuned.
        base: where relative model paths start.
        wishes: the task's training section.
        method: a name in METHODS.
        examples: how many there are to learn from.
        seed: decides order and initial values.

    Raises:
        InputError: the method cannot learn the objective, or a value does not fit the model.
        ModelError: there is no such model.
    """
    from luthier.models.machine import this_machine
    from luthier.training.objective import DEFAULT, OBJECTIVES, check_method

    objective = OBJECTIVES.get(wishes.objective or DEFAULT)()
    check_method(type(objective), method)
    info = objective.describe(model_name, base)
    usual = objective.defaults(examples=examples, info=info, method=method)
    given = {key: value for key, value in usual.items() if getattr(wishes, key) is None}
    config = decide(
        wishes.model_copy(update={**given, "objective": objective.name}),
        method=method,
        examples=examples,
        hidden_size=info.hidden_size,
        layers=info.layers,
        context_length=info.context_length,
        bfloat16=this_machine().fast_bfloat16,
        gpu=bool(this_machine().gpus),
        seed=seed,
    )
    return objective, info, config
