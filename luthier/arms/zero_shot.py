"""The instruction alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luthier.arms.base import ARMS, Answerer, Arm, Fit, Workplace
from luthier.arms.prompted import instructed, open_prompted, untrained
from luthier.arms.readings import read_best, reading_choice
from luthier.models.pool import ModelPool
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

        # how an answer is read is only a choice where there are labels
        rows = min(_VALIDATION_ROWS, len(place.validation)) if place.labels else 0
        return answering_seconds(place, tests + rows)

    def fit(self, place: Workplace) -> Fit:
        """Choose how the answer is read."""
        task = place.task
        prompt = instructed(task, place.pool)
        # reading is only a choice where there are labels to compare
        rows = place.validation[:_VALIDATION_ROWS] if place.labels else ()
        reading, _, options = read_best(
            place,
            self.name,
            place.pool.generator(task.model),
            prompt,
            rows,
            place.pool.causal(task.model).context_length,
        )
        return Fit(
            settings={
                "model": task.model,
                "prompt": prompt.to_dict(),
                "reading": reading.to_dict(),
            },
            choices=[reading_choice(options, reading, len(rows))] if options else [],
            costs=untrained(task, place.pool),
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
        del folder
        return open_prompted(self.name, settings, pool, task=task, labels=labels)
