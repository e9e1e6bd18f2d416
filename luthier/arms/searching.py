"""How a tuned arm tries several settings of training and keeps the best (`--tune N`)."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.arms.base import Choice, Workplace
from luthier.arms.prompted import PromptedAnswerer
from luthier.arms.readings import read_best
from luthier.arms.trained import trained
from luthier.files import read_json, write_json
from luthier.progress import Bar, Reporter
from luthier.training.knobs import knobs
from luthier.training.method import METHODS
from luthier.training.search import Attempt, Found, Tried, folder_of, search

if TYPE_CHECKING:
    from luthier.data.examples import Example
    from luthier.task_training import Training
    from luthier.training.config import TrainingConfig

#: The folder of an arm that a search keeps its journal and its trials in.
TUNE = "tune"
_CHOICE = "choice.json"
#: Validation rows that a trial is scored on.
ROWS = 120
#: The share of an arm's time that trials may take; the rest is for answering.
_SHARE = 0.8


@dataclass(frozen=True)
class Tuned:
    """What is tuned while settings are tried.

    Attributes:
        name: of the arm.
        model: catalogue name, folder or hub id of what is tuned.
        wishes: the training section, as it is meant for that model; what it leaves open is tried.
        method: how it is tuned.
        score: asks the model in a trial's folder; (the trial, validation rows) to the task's
            metric on them.
    """

    name: str
    model: str
    wishes: Training
    method: str
    score: Callable[[Attempt, Sequence[Example]], float]


def scored_by_reading(
    place: Workplace, name: str, opened: Callable[[Path], PromptedAnswerer]
) -> Callable[[Attempt, Sequence[Example]], float]:
    """The score of a model that writes, read in the way that is best for it.

    Args:
        place: the arm's.
        name: of the arm.
        opened: opens an arm whose model is in the given folder.
    """

    def score(trial: Attempt, rows: Sequence[Example]) -> float:
        answerer = opened(trial.folder)
        said = f"{name}, trial {trial.number + 1} of {place.task.training.tune or 1}"
        try:
            generator, prompt, room = answerer.generator, answerer.prompt, answerer.context_length
            return read_best(place, said, generator, prompt, rows, room or 0)[1]
        finally:
            answerer.close()

    return score


def tuned_by_search(place: Workplace, tuned: Tuned) -> dict[str, Any]:
    """Try settings, and leave the best trial's model where a tuned arm keeps its own.

    Returns:
        What train.json will hold: the winning stage.

    Raises:
        InputError, ModelError, TrainingError: see their messages.
    """
    from luthier.training.decided import decided_for

    task, name = place.task, tuned.name
    _, _, default = decided_for(
        tuned.model,
        task.folder,
        tuned.wishes,
        method=tuned.method,
        examples=len(place.train),
        seed=task.seed,
    )
    trials = task.training.tune or 1
    space = knobs(
        tuned.wishes, default, reads=METHODS.get(tuned.method).reads, examples=len(place.train)
    )
    rows = place.validation[:ROWS] or place.train[:ROWS]

    def stage_of(trial: Attempt) -> dict[str, Any]:
        """The stage of a trial; one that a kill came after is not trained again."""
        stored = trial.folder / "train.json"
        if stored.is_file() and (trial.folder / "model").is_dir():
            held: dict[str, Any] = read_json(stored)
            for step, loss in held["validation"][-1:]:
                trial.watch(step, step, loss)
            return held
        heard = _OfTrial(place.reporter, trial.number, trials)
        # the default configuration as it would be without a search, fewer epochs where time is
        # short included
        update = dict(trial.values) if trial.number else {}
        if tuned.wishes.evaluate_every is None:
            update["evaluate_every"] = a_tenth(default.model_copy(update=update), len(place.train))
        result = trained(
            place,
            tuned.method,
            model=tuned.model,
            wishes=tuned.wishes.model_copy(update=update),
            validation=rows,
            folder=trial.folder,
            reporter=heard,
            watch=trial.watch,
        )
        write_json(stored, result.to_dict())
        return result.to_dict()

    def attempt(trial: Attempt) -> tuple[float, Mapping[str, Any]]:
        stage = stage_of(trial)
        score = tuned.score(trial, rows)
        return score, {key: stage["config"][key] for key in space}

    def told(tried: Tried) -> None:
        metrics = {"score": tried.score, "validation_loss": tried.loss, "seconds": tried.seconds}
        place.reporter.event(
            "trial done",
            arm=name,
            trial=tried.number,
            values=tried.values,
            state=tried.state,
            why=tried.why,
            metrics=metrics,
        )
        said = f"{tried.score:.3f}" if tried.score is not None else f"{tried.state}: {tried.why}"
        place.reporter.say(
            f"{name}, trial {tried.number + 1} of {trials}: {said} ({in_words(tried.values)})"
        )

    found = search(
        space,
        attempt,
        trials=trials,
        folder=place.folder / TUNE,
        seed=task.seed,
        seconds=_SHARE * 60 * place.minutes,
        told=told,
    )
    return _deploy(place, tuned.model, found, len(rows), in_training=not place.validation)


def a_tenth(config: TrainingConfig, examples: int) -> int:
    """Optimiser steps of about a tenth of a stage."""
    steps = config.epochs * math.ceil(examples / config.batch_size)
    return max(1, round(steps / 10))


def search_choice(folder: Path) -> list[Choice]:
    """What an arm's search chose, from its folder; nothing where it did not search."""
    path = folder / TUNE / _CHOICE
    if not path.is_file():
        return []
    held = read_json(path)
    return [Choice(held["what"], held["options"], held["chosen"], held["why"])]


def in_words(values: Mapping[str, Any]) -> str:
    """Settings as people say them: "learning rate 9.3e-04, epochs 3"."""
    return ", ".join(
        f"{key.replace('_', ' ')} {f'{value:.2g}' if key == 'learning_rate' else f'{value:g}'}"
        for key, value in values.items()
    )


def _deploy(
    place: Workplace, base_model: str, found: Found, rows: int, *, in_training: bool
) -> dict[str, Any]:
    """Move the winner to the arm's folder, and write down what it won against."""
    from luthier.models.tuned import base_record
    from luthier.training.samples_file import SAMPLES

    home = folder_of(place.folder / TUNE, found.best)
    model = place.folder / "model"
    options = [
        {
            "value": in_words(tried.values) + (" (the default)" if tried.number == 0 else ""),
            "score": tried.score,
            "note": tried.why,
            "trial": tried.number,
            "seed": tried.seed,
            "settings": tried.values,
            "validation_loss": tried.loss,
            "seconds": tried.seconds,
            "state": tried.state,
        }
        for tried in found.trials
    ]
    split = "training" if in_training else "validation"
    write_json(
        place.folder / TUNE / _CHOICE,
        {
            "what": "settings of training",
            "options": options,
            "chosen": next(o["value"] for o in options if o["trial"] == found.best),
            "why": f"the highest score on {rows} {split} examples; of equals the lowest loss on "
            "them. " + " ".join(found.notes),
        },
    )
    if (home / SAMPLES).is_file():
        shutil.copyfile(home / SAMPLES, place.folder / SAMPLES)
    stage: dict[str, Any] = read_json(home / "train.json")
    if (home / "model").is_dir():  # else a kill came after it was moved
        shutil.rmtree(model, ignore_errors=True)
        (home / "model").rename(model)
    # the way to a model that lies beside it is another one from here
    stored = read_json(model / "prompt.json")
    record = base_record(base_model, place.task.folder, beside=model)
    write_json(model / "prompt.json", {**stored, **record})
    return {**stage, "notes": [*stage["notes"], *found.notes]}


class _OfTrial(Reporter):
    """Says of what is shown, and of every event, which trial it belongs to."""

    def __init__(self, inner: Reporter, number: int, trials: int) -> None:
        self._inner, self._number, self._trials = inner, number, trials

    @contextlib.contextmanager
    def work(self, what: str, total: float) -> Iterator[Bar]:
        """See `Reporter.work`."""
        named = f"trial {self._number + 1} of {self._trials}, {what}"
        with self._inner.work(named, total) as bar:
            yield bar

    def say(self, text: str) -> None:
        """See `Reporter.say`."""
        self._inner.say(text)

    def event(self, kind: str, **values: object) -> None:
        """See `Reporter.event`."""
        self._inner.event(kind, trial=self._number, **values)
