"""The instruction alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luthier.arms.base import ARMS, Answerer, Arm, Fit, Workplace
from luthier.arms.prompted import PromptedAnswerer, Reading, read_best, reading_choice
from luthier.models.pool import ModelPool
from luthier.prompts.prompt import Prompt
from luthier.task import Task

_VALIDATION_ROWS = 60


@ARMS.register("zero-shot")
class ZeroShot(Arm):
    """Asks the model with the task's instruction and nothing else."""

    name = "zero-shot"
    title = "Prompt"
    order = 20

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """From the tokens that must be read and written."""
        from luthier.arms.planning import answering_seconds

        return answering_seconds(place, tests + min(_VALIDATION_ROWS, len(place.validation)))

    def fit(self, place: Workplace) -> Fit:
        """Choose how the answer is read."""
        from luthier.models.adapters import counts
        from luthier.models.heads import stop_ids

        task = place.task
        loaded = place.pool.causal(task.model)
        prompt = Prompt(
            loaded.tokenizer, instruction=task.instruction, stop_ids=stop_ids(loaded.model)
        )
        # reading is only a choice where there are labels to compare
        rows = place.validation[:_VALIDATION_ROWS] if place.labels else ()
        reading, _, options = read_best(
            place,
            self.name,
            place.pool.generator(task.model),
            prompt,
            rows,
            loaded.context_length,
        )
        return Fit(
            settings={
                "model": task.model,
                "prompt": prompt.to_dict(),
                "reading": reading.to_dict(),
            },
            choices=[reading_choice(options, reading, len(rows))] if options else [],
            costs={
                "train_seconds": 0.0,
                "trained_parameters": 0,
                "total_parameters": counts(loaded.model)[1],
            },
            notes=prompt.notes,
        )

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The answerer."""
        from luthier.models.heads import stop_ids

        loaded = pool.causal(settings["model"])
        return PromptedAnswerer(
            self.name,
            pool.generator(settings["model"]),
            Prompt.from_dict(settings["prompt"], loaded.tokenizer, stop_ids=stop_ids(loaded.model)),
            Reading.from_dict(settings["reading"]),
            task=task,
            labels=labels,
            context_length=loaded.context_length,
        )
