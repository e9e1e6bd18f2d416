"""How a tuned arm tries several settings of training and keeps the best (`--tune N`)."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.arms.base import Choice, Workplace
from luthier.arms.prompted import PromptedAnswerer
from luthier.arms.readings import read_best
from luthier.files import read_json, write_json
from luthier.progress import Bar, Reporter
from luthier.training.method import METHODS
from luthier.training.search import Attempt, Found, Tried, folder_of, knobs, search

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig

#: The folder of an arm that a search keeps its journal and its trials in.
TUNE = "tune"
_CHOICE = "choice.json"
#: Validation rows that a trial is scored on.
ROWS = 120
#: The share of an arm's time that trials may take; the rest is for answering.
_SHARE = 0.8


def tuned_by_search(
    place: Workplace,
    *,
    name: str,
    method: str,
    opened: Callable[[Path], PromptedAnswerer],
) -> dict[str, Any]:
    """Try settings, and leave the best trial's model where a tuned arm keeps its own.

    Args:
        place: the arm's.
        name: of the arm.
        method: how it is tuned.
        opened: opens an arm whose model is in the given folder.

    Returns:
        What train.json will hold: the winning stage.

    Raises:
        InputError, ModelError, TrainingError: see their messages.
    """
    from luthier.models.machine import this_machine
    from luthier.models.tuned import describe_any
    from luthier.training.config import decide
    from luthier.training.stage import train_stage

    task = place.task
    info = describe_any(task.model, base=task.folder)
    default = decide(
        task.training,
        method=method,
        examples=len(place.train),
        hidden_size=info.hidden_size,
        layers=info.layers,
        context_length=info.context_length,
        bfloat16=this_machine().fast_bfloat16,
        gpu=bool(this_machine().gpus),
        seed=task.seed,
    )
    trials = task.training.tune or 1
    space = knobs(
        task.training, default, reads=METHODS.get(method).reads, examples=len(place.train)
    )
    rows = place.validation[:ROWS] or place.train[:ROWS]

    def trained(trial: Attempt) -> dict[str, Any]:
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
        if task.training.evaluate_every is None:
            update["evaluate_every"] = a_tenth(default.model_copy(update=update), len(place.train))
        result = train_stage(
            model_name=task.model,
            base=task.folder,
            instruction=task.instruction,
            examples=place.train,
            wishes=task.wishes.model_copy(update=update),
            method=method,
            seed=task.seed,
            folder=trial.folder,
            reporter=heard,
            minutes=place.minutes,
            validation=rows,
            watch=trial.watch,
        )
        write_json(stored, result.to_dict())
        return result.to_dict()

    def attempt(trial: Attempt) -> tuple[float, Mapping[str, Any]]:
        stage = trained(trial)
        answerer = opened(trial.folder)
        try:
            _, score, _ = read_best(
                place,
                f"{name}, trial {trial.number + 1} of {trials}",
                answerer.generator,
                answerer.prompt,
                rows,
                answerer.context_length or 0,
            )
        finally:
            answerer.close()
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
    return _deploy(place, found, len(rows), in_training=not place.validation)


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


def _deploy(place: Workplace, found: Found, rows: int, *, in_training: bool) -> dict[str, Any]:
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
    record = base_record(place.task.model, place.task.folder, beside=model)
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
