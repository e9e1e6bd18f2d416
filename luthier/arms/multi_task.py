"""Tuned on the task and, at the same time, on the others of its mixture."""

from __future__ import annotations

from typing import Any

from luthier.arms.base import ARMS, Workplace
from luthier.arms.prompted import PromptedAnswerer
from luthier.arms.trained import trained
from luthier.arms.tuned import TunedArm
from luthier.data.mixtures import Others, mix, others
from luthier.data.prepare import prepare
from luthier.task import Task


@ARMS.register("multi-task")
class MultiTask(TunedArm):
    """Trains on the mixture of `mixture:`, every example with its own task's instruction."""

    name = "multi-task"
    title = "Tuning on several tasks"
    in_auto = True
    learns = False
    no_curve = (
        "its mixture has rows of other tasks too, and pilot fits take parts of this task's rows "
        "alone"
    )
    method = "lora"
    order = 75
    _read: Others | None = None

    def unsuited(self, task: Task) -> str | None:
        """See `Arm.unsuited`."""
        return super().unsuited(task) if task.mixture else "the task has no `mixture`"

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """An epoch of the mixture, and the answers to all tasks' tests."""
        own = super().least_seconds(place, tests)
        read = self._others(place.task).tasks.values()
        rows = max(1, len(place.train))
        return own * (1 + sum(len(data.splits.train) for _, data in read) / rows)

    def train(self, place: Workplace) -> dict[str, Any]:
        """One stage on the mixture."""
        task = place.task
        # the task's own test is read for nothing but leaving its rows out of what others train on
        mixed = mix(task, prepare(task), self._others(task))
        return trained(place, self.method, examples=mixed.examples, mixture=mixed).to_dict()

    def also(self, place: Workplace, answerer: PromptedAnswerer) -> dict[str, Any]:
        """`tasks`: the scores of this one model on the tests of the other tasks."""
        from luthier.evaluation.transfer import fill
        from luthier.staged.asking import answer_test, column

        table: dict[str, Any] = {}
        for name, (task, data) in self._others(place.task).tasks.items():
            answers = answer_test(
                self.name,
                answerer.generator,
                answerer.context_length or 0,
                task,
                data,
                place.reporter,
            )
            found = column(name, task, data, [[answer.text for answer in answers]])
            filled = fill([found], seed=place.task.seed)
            table[name] = {
                "metric": found.metric.name,
                "score": round(float(filled.scores[0, 0]), 6),
                "interval": [round(end, 6) for end in filled.intervals[0][0]],
                "n": len(answers),
            }
            place.reporter.event("task", arm=self.name, task=name, **table[name])
        return {"tasks": table}

    def _others(self, task: Task) -> Others:
        """The other tasks, read once."""
        if self._read is None:
            self._read = others(task)
        return self._read
