"""Tuned through the task's stages, the last of which is the task itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthier.arms.base import ARMS, Workplace
from luthier.arms.tuned import TunedArm
from luthier.data.examples import Example
from luthier.data.held_out import without_tests
from luthier.data.prepare import Prepared, prepare
from luthier.files import read_json, write_json
from luthier.staged.plan import Link, chain, data_of
from luthier.task import Task


@ARMS.register("staged")
class Staged(TunedArm):
    """Trains on the tasks of `stages:` one after another, and last on the task's own examples."""

    name = "staged"
    title = "Tuning in stages"
    in_auto = True
    learns = False
    no_curve = (
        "its stages learn from rows of other tasks too, and pilot fits take parts of this task's "
        "rows alone"
    )
    method = "lora"
    order = 70
    _read: list[tuple[Link, Prepared]] | None = None

    def unsuited(self, task: Task) -> str | None:
        """See `Arm.unsuited`."""
        return super().unsuited(task) if task.stages else "the task has no `stages`"

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """An epoch of every stage."""
        own = super().least_seconds(place, tests)
        before = [_characters(data.splits.train) for _, data in self._before(place.task)]
        return own * (1 + sum(before) / max(1, _characters(place.train)))

    def train(self, place: Workplace) -> dict[str, Any]:
        """The stages before in `stages/NAME`, the task itself where a tuned arm keeps its model.

        Rows that the task tests on are left out of what earlier stages train on. (Its test is read
        for this and for nothing else.)
        """
        from luthier.training.stage import train_stage

        task = place.task
        *_, last = chain(task)
        before = self._before(task)
        test = prepare(task).splits.test
        sizes = [_characters(data.splits.train) for _, data in before]
        whole_size = sum(sizes) + _characters(place.train)
        done: list[dict[str, Any]] = []
        notes: list[str] = []
        model, base = task.model, task.folder
        for (link, data), size in zip(before, sizes, strict=True):
            folder = place.folder / "stages" / link.name
            stored = folder / "train.json"
            examples, left_out = without_tests(data.splits.train, [test, place.validation])
            if left_out:
                notes.append(f"{link.name}: {left_out} rows are test or validation questions.")
            if not stored.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                result = train_stage(
                    model_name=model,
                    base=base,
                    instruction=link.task.instruction,
                    examples=examples,
                    wishes=link.task.wishes,
                    method=link.method,
                    seed=link.task.seed,
                    folder=folder,
                    reporter=place.reporter,
                    minutes=place.minutes * size / whole_size,
                    validation=data.splits.validation,
                )
                write_json(stored, result.to_dict())
            done.append(read_json(stored))
            notes += [f"{link.name}: {note}" for note in done[-1]["notes"]]
            model = str(folder.absolute())
        result = train_stage(
            model_name=model,
            base=base,
            instruction=last.task.instruction,
            examples=place.train,
            wishes=last.task.wishes,
            method=last.method,
            seed=task.seed,
            folder=place.folder,
            reporter=place.reporter,
            minutes=place.minutes * _characters(place.train) / whole_size,
            validation=place.validation,
        )
        whole = result.to_dict()
        done.append(whole)
        tokens, seconds = sum(d["tokens"] for d in done), sum(d["seconds"] for d in done)
        return {
            **whole,
            "tokens": tokens,
            "seconds": seconds,
            "tokens_per_second": tokens / max(seconds, 1e-9),
            "peak_memory_bytes": max(d["peak_memory_bytes"] for d in done),
            "notes": [*notes, *whole["notes"]],
        }

    def _before(self, task: Task) -> list[tuple[Link, Prepared]]:
        """The stages before the task itself, with their data, read once."""
        if self._read is None:
            self._read = [(link, data_of(link.task)) for link in chain(task)[:-1]]
        return self._read


def _characters(examples: Sequence[Example]) -> int:
    """How much there is to read and write."""
    return sum(len(e.output) + sum(len(m.content) for m in e.messages) for e in examples)
