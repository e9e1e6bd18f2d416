"""An arm fitted again: with another seed, or on a part of the training rows.

A refit lives in a folder of its own, OUT/refits/NAME, and is asked the same test. Its model is
deleted once it has answered: it is there to show how much a score scatters and how it grows with
the data, never to be served, and nothing is chosen by it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luthier.arms.base import Arm, Workplace
from luthier.data.examples import Example
from luthier.data.schemas import AnswerSchema
from luthier.errors import LuthierError, RunError
from luthier.evaluation.scoring import Metric, Scored, score
from luthier.files import read_json, read_jsonl, write_json, write_jsonl
from luthier.generation.answers import Answer
from luthier.results import prediction_row, read_rows, scoring_rows
from luthier.runs import disk_is_full
from luthier.task import Task

#: What a search of settings may have decided (`training/search.py`); a refit takes it over.
_SEARCHED = ("learning_rate", "epochs", "batch_size", "rank", "alpha", "dropout", "weight_decay")


@dataclass(frozen=True)
class Exam:
    """What every arm of a run is asked, and how its answers are scored.

    Attributes:
        test: the locked rows.
        schema: what structured answers are held against.
        judge: writes its judgement into the answers of an arm, where one decides.
    """

    test: Sequence[Example]
    metric: Metric
    labels: tuple[str, ...] | None
    schema: AnswerSchema | None
    judge: Callable[[str, Sequence[Answer]], None] | None = None


def refit(
    arm: Arm,
    place: Workplace,
    exam: Exam,
    *,
    folder: Path,
    seed: int,
    train: Sequence[Example] | None = None,
    record: dict[str, Any] | None = None,
) -> str | None:
    """Fit an arm again and let it answer the test, unless that was done before.

    Args:
        arm: to fit.
        place: it was first fitted in.
        exam: what it is asked.
        folder: where this fit lives; gets arm.json and predictions.jsonl.
        seed: instead of the task's.
        train: instead of all training rows.
        record: arm.json of the first fit: settings that were searched for then are taken over.

    Returns:
        Why it failed, or None.

    Raises:
        RunError: the folder cannot be written.
    """
    stored = folder / "arm.json"
    if stored.is_file():
        failed: str | None = read_json(stored)["failed"]
        return failed
    place = replace(
        place,
        task=_without_search(place.task, record or {}).changed(seed=seed),
        train=place.train if train is None else train,
        folder=folder,
    )
    try:
        costs = _fit_and_answer(arm, place, exam)
    except RunError:
        raise
    except Exception as error:
        if disk_is_full(error):
            raise RunError(
                f"The disk is full: {arm.name} could not be stored in {folder}.",
                fix="Free some space; what was written before is kept, and --resume continues.",
            ) from error
        kind = "" if isinstance(error, LuthierError) else f"{type(error).__name__}: "
        failed, costs = f"{kind}{error}", {}
    else:
        failed = None
    for spent in folder.glob("*/"):
        shutil.rmtree(spent, ignore_errors=True)
    write_json(
        stored,
        {"name": arm.name, "seed": seed, "examples": len(place.train), "failed": failed, **costs},
    )
    return failed


def _fit_and_answer(arm: Arm, place: Workplace, exam: Exam) -> dict[str, Any]:
    fit = arm.fit(place)
    answerer = arm.open(place.task, place.labels, place.folder, fit.settings, place.pool)
    try:
        asked = arm.asked(exam.test, place.task, answerer)
        with place.reporter.work(f"{arm.name}: answering the test", len(asked)) as bar:
            answers = answerer.answer(asked, progress=bar.advance)
    finally:
        answerer.close()
    if exam.judge:
        exam.judge(arm.name, answers)
    rows = scoring_rows(place.task.kind, exam.labels, exam.test, answers, exam.schema)
    scored = score(exam.metric.name, rows)
    write_jsonl(
        place.folder / "predictions.jsonl",
        (
            prediction_row(example, answer, float(value))
            for example, answer, value in zip(exam.test, answers, scored.row_scores, strict=True)
        ),
    )
    return {"score": scored.value, "train_seconds": fit.costs.get("train_seconds")}


def scored_again(folder: Path, task: Task, exam: Exam) -> Scored:
    """The answers of a finished refit, scored from its folder."""
    rows = read_jsonl(folder / "predictions.jsonl")
    return score(exam.metric.name, read_rows(task.kind, rows, exam.labels, exam.schema))


def _without_search(task: Task, record: dict[str, Any]) -> Task:
    if not task.training.tune:
        return task
    config = (record.get("settings") or {}).get("training") or {}
    training = task.to_dict()["training"] | {"tune": None}
    known = type(task.training).model_fields
    training |= {key: config[key] for key in _SEARCHED if key in config and key in known}
    return task.changed(training=training)
