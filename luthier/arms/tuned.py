"""What the arms that train the task's model have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from luthier.arms.base import ARMS, Answerer, Arm, Fit, Workplace
from luthier.arms.prompted import PromptedAnswerer, Reading
from luthier.arms.readings import read_best, reading_choice
from luthier.arms.searching import Tuned, scored_by_reading, search_choice, tuned_by_search
from luthier.arms.trained import costs_of, shown_of, trained
from luthier.errors import InputError
from luthier.files import read_json, write_json
from luthier.models.pool import ModelPool
from luthier.prompts.prompt import Prompt
from luthier.task import Task
from luthier.training.config import refuse_ignored
from luthier.training.method import METHODS

_VALIDATION_ROWS = 60
_STAGE = "train.json"


class TunedArm(Arm):
    """Trains on the training examples with the task's instruction, then answers like any model."""

    method: ClassVar[str]
    changes_weights = True
    learns = True
    seeded = True

    def unsuited(self, task: Task) -> str | None:
        """Why this arm cannot do the task, or None.

        Raises:
            InputError: a key of the training section that no tuned arm of the task reads.
        """
        refuse_ignored(task.training, _methods(task))
        wanted = task.training.objective
        if wanted not in (None, "sft"):
            return (
                f"{self.name} learns to write answers, and `training.objective` is {wanted}; that "
                "is for `luthier train`, or for the arms classifier and token-classifier"
            )
        return super().unsuited(task)

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """One epoch of training (or the epochs the task asks for), then answering."""
        from luthier.arms.planning import answering_seconds
        from luthier.models.estimate import estimate
        from luthier.models.tuned import describe_any

        info = describe_any(place.task.model, base=place.task.folder)
        method = METHODS.get(self.method)
        text = sum(len(e.input) + len(e.output) for e in place.train)
        steps = len(place.train) / (place.task.training.batch_size or 8)
        # a batch reads the instruction once; four characters a token
        tokens = (text + len(place.task.instruction) * steps) / 4
        one = estimate(info, method.like, fused=None if method.fused else False)
        epochs = place.task.training.epochs or 1
        return epochs * one.seconds(tokens, steps) + answering_seconds(place, tests)

    def fit(self, place: Workplace) -> Fit:
        """Train (or take up the result of training that an interruption came after)."""
        if not place.train:
            raise InputError("There are no training examples.")
        task = place.task
        stored = place.folder / _STAGE
        if not (stored.is_file() and (place.folder / "model").is_dir()):
            # the shared models are not needed while training; their memory is
            place.pool.release()
            if task.training.tune and self._searches:
                found = tuned_by_search(
                    place,
                    Tuned(
                        name=self.name,
                        model=task.model,
                        wishes=task.wishes,
                        method=self.method,
                        score=scored_by_reading(
                            place,
                            self.name,
                            lambda home: self._opened(
                                task, place.labels, home, Reading(), place.pool
                            ),
                        ),
                    ),
                )
            else:
                found = self.train(place)
            write_json(stored, found)
        stage = read_json(stored)
        answerer = self._opened(task, place.labels, place.folder, Reading(), place.pool)
        rows = place.validation[:_VALIDATION_ROWS] if place.labels else ()
        reading, _, options = read_best(
            place,
            self.name,
            answerer.generator,
            answerer.prompt,
            rows,
            answerer.context_length or 0,
        )
        extra = self.also(place, answerer)
        answerer.close()
        unused = []
        if task.training.tune and not self._searches:
            unused = [f"`training.tune` was not used: {self.name} trains more than one thing."]
        return Fit(
            settings={"reading": reading.to_dict(), "training": stage["config"]},
            choices=[
                *search_choice(place.folder),
                *([reading_choice(options, reading, len(rows))] if options else []),
            ],
            costs=costs_of(stage),
            curve=[(step, loss) for step, loss in stage["curve"]],
            notes=[*stage["notes"], *unused],
            extra={**shown_of(stage), **extra},
        )

    @property
    def _searches(self) -> bool:
        """Whether settings can be tried: one stage on the task's own examples is what is tried."""
        return type(self).train is TunedArm.train

    def train(self, place: Workplace) -> dict[str, Any]:
        """Train and store the model in the arm's folder; what train.json will hold."""
        return trained(place, self.method).to_dict()

    def also(self, place: Workplace, answerer: PromptedAnswerer) -> dict[str, Any]:
        """What else arm.json should hold of the tuned model."""
        del place, answerer
        return {}

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The tuned model with the prompt it was tuned on."""
        reading = Reading.from_dict(settings["reading"])
        return self._opened(task, labels, folder, reading, pool)

    def _opened(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        reading: Reading,
        pool: ModelPool,
    ) -> PromptedAnswerer:
        return open_tuned(self.name, folder / "model", reading, task=task, labels=labels, pool=pool)


def _methods(task: Task) -> list[str]:
    """The tuning methods among the arms that a task names; none where other arms train too, with
    methods of their own choice."""
    if task.arms == "auto":
        return [name for name, method in METHODS if method.in_auto]
    named = [name for name in task.arms if name in ARMS and ARMS.get(name).changes_weights]
    return named if all(name in METHODS for name in named) else []


def open_tuned(
    name: str,
    folder: Path,
    reading: Reading,
    *,
    task: Task | None,
    labels: tuple[str, ...] | None,
    pool: ModelPool,
) -> PromptedAnswerer:
    """A model that a training stage stored, asked by the prompt it was trained with."""
    from luthier.generation.local import Generator
    from luthier.models.heads import stop_ids
    from luthier.models.tuned import load_tuned

    stored = read_json(folder / "prompt.json")
    loaded = load_tuned(folder, stored["model"], base=task.folder if task else None)
    prompt = Prompt.from_dict(stored, loaded.tokenizer, stop_ids=stop_ids(loaded.model))
    if stored.get("objective") == "pretrain" and task is not None:
        # trained on raw text: it has not learned any other instruction
        prompt = Prompt(
            loaded.tokenizer, instruction=task.instruction, stop_ids=stop_ids(loaded.model)
        )
    return PromptedAnswerer(
        name,
        Generator(loaded.model, loaded.tokenizer),
        prompt,
        reading,
        task=task,
        labels=labels,
        context_length=loaded.context_length,
        owns_model=True,
    )
