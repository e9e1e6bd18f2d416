"""Transfer learning with labels: an encoder that is fine-tuned together with a new head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from luthier.arms.base import ARMS, Answerer, Arm, Fit, Workplace
from luthier.arms.headed import open_headed
from luthier.arms.linear_probe import ENCODER
from luthier.arms.readings import conversations, score_on
from luthier.arms.searching import Tuned, search_choice, tuned_by_search
from luthier.arms.trained import costs_of, shown_of, trained
from luthier.data.examples import Example
from luthier.errors import InputError
from luthier.files import read_json, write_json
from luthier.models.pool import ModelPool
from luthier.task import Task
from luthier.task_training import Training
from luthier.training.search import Attempt

_STAGE = "train.json"
#: Tokens that a small encoder trains in a second, to plan with: a floor measured on two cores.
_RATE = 2000

#: Keys of the training section that mean the same for an encoder as for the task's model.
_SHARED = (
    *("layer_decay", "unfreeze", "pooling", "weight_decay", "max_grad_norm", "warmup"),
    *("precision", "patience", "evaluate_every", "checkpoint_every", "keep_checkpoints"),
)


class EncoderArm(Arm):
    """Fine-tunes an encoder and a head for labels, by the same stage and loop as any model.

    The encoder is the task's model where that is one, else a small sentence encoder. In that case
    learning rate, epochs and batch size are the encoder's own: those of the task's training section
    are meant for a model that writes.
    """

    objective: ClassVar[str]
    method: ClassVar[str] = "full"
    learns = True
    seeded = True

    def unsuited(self, task: Task) -> str | None:
        """Why this arm cannot do the task, or None."""
        wanted = task.training.objective
        if wanted not in (None, "sft", self.objective):
            return f"`training.objective` is {wanted}, and {self.name} learns {self.objective}"
        return super().unsuited(task)

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """A few passes over the training rows, four characters a token."""
        del tests
        text = sum(len(e.input) for e in place.train)
        return 10 + 6 * text / 4 / _RATE

    def fit(self, place: Workplace) -> Fit:
        """Train (or take up the result of training that an interruption came after)."""
        if not place.train:
            raise InputError("There are no training examples.")
        stored = place.folder / _STAGE
        notes: list[str] = []
        encoder = encoder_of(place.task)
        if not (stored.is_file() and (place.folder / "model").is_dir()):
            place.pool.release()
            wishes = place.task.wishes
            if encoder != place.task.model:
                wishes, notes = own_wishes(wishes)
            wishes = wishes.model_copy(update={**place.settled, "objective": self.objective})
            held = self._trained(place, encoder, wishes)
            write_json(stored, {**held, "notes": [*notes, *held["notes"]]})
        stage = read_json(stored)
        return Fit(
            settings={"encoder": encoder, "training": stage["config"]},
            choices=search_choice(place.folder),
            costs=costs_of(stage),
            curve=[(step, loss) for step, loss in stage["curve"]],
            notes=stage["notes"],
            extra=shown_of(stage),
        )

    def _trained(self, place: Workplace, encoder: str, wishes: Training) -> dict[str, Any]:
        """What train.json will hold, of one stage or of the best of those that were tried."""
        if place.task.training.tune:
            tuned = Tuned(self.name, encoder, wishes, self.method, partial(self._score, place))
            return tuned_by_search(place, tuned)
        return trained(place, self.method, model=encoder, wishes=wishes).to_dict()

    def _score(self, place: Workplace, trial: Attempt, rows: Sequence[Example]) -> float:
        answerer = open_headed(self.name, trial.folder / "model", place.task)
        try:
            return score_on(place, rows, answerer.answer(conversations(rows)))
        finally:
            answerer.close()

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The fine-tuned encoder and its head."""
        del labels, settings, pool
        return open_headed(self.name, folder / "model", task)


@ARMS.register("classifier")
class ClassifierArm(EncoderArm):
    """A small encoder fine-tuned whole, with a head over its pooled text."""

    name = "classifier"
    title = "Fine-tuned encoder with a head"
    kinds = frozenset({"classification"})
    objective = "sequence-classification"
    order = 12


def encoder_of(task: Task) -> str:
    """The task's model where it is an encoder, else the one that comes with the project."""
    from luthier.models.tuned import describe_any

    kind = describe_any(task.model, base=task.folder).kind
    return task.model if kind == "encoder" else ENCODER


def own_wishes(wishes: Training) -> tuple[Training, list[str]]:
    """What of the training section is meant for an encoder too, and a note on the rest.

    Texts that are too long for the encoder are cut, as the linear probe cuts them.
    """
    given = wishes.model_dump(exclude_defaults=True)
    kept = {key: getattr(wishes, key) for key in _SHARED if key in given}
    rest = sorted(set(given) - set(_SHARED) - {"objective", "tune"})
    notes = []
    if rest:
        notes.append(
            f"training.{', training.'.join(rest)}: meant for the task's model; the encoder is "
            "trained with values of its own."
        )
    return Training(**{**kept, "overlong": "cut"}), notes
