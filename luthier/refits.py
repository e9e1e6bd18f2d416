"""An arm fitted again: with another seed, or on a part of the training rows.

A refit lives in a folder of its own, OUT/refits/NAME, and is asked the same test. Its model is
deleted once it has answered: it is there to show how much a score scatters and how it grows with
the data, never to be served, and nothing is chosen by it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from luthier.arms.base import Arm, Fit, Workplace
from luthier.data.examples import Example
from luthier.exam import Exam
from luthier.files import read_json, write_json
from luthier.runs import reason_of
from luthier.task import Task

#: What a search of settings may have decided (`training/search.py`); a refit takes it over.
_SEARCHED = ("learning_rate", "epochs", "batch_size", "rank", "alpha", "dropout", "weight_decay")


def refit(
    arm: Arm,
    place: Workplace,
    exam: Exam,
    *,
    folder: Path,
    seed: int,
    record: dict[str, Any],
    train: Sequence[Example] | None = None,
) -> str | None:
    """Fit an arm again and let it answer the test, unless that was done before.

    Time does not cut it short, as it may have cut the first fit: an arm is then trained for as many
    epochs as it was.

    Args:
        arm: to fit.
        place: it was first fitted in.
        exam: what it is asked.
        folder: where this fit lives; gets arm.json and predictions.jsonl.
        seed: instead of the task's.
        record: arm.json of the first fit.
        train: instead of all training rows.

    Returns:
        Why it failed, or None.

    Raises:
        RunError: the folder cannot be written.
    """
    stored = folder / "arm.json"
    if stored.is_file():
        failed: str | None = read_json(stored)["failed"]
        return failed
    task, settled = _as_before(place.task, record, whole=train is None)
    task = task.changed(seed=seed)
    place = replace(
        place,
        task=task,
        train=place.train if train is None else train,
        folder=folder,
        minutes=max(place.minutes, task.budget.minutes),
        settled=settled,
    )
    found: dict[str, Any] = {}
    try:
        fit = arm.fit(place)
        found = {"score": _answered(arm, fit, place, exam), "costs": fit.costs}
        failed = None
    except Exception as error:
        failed = reason_of(error, arm.name, folder)
    for spent in folder.glob("*/"):
        shutil.rmtree(spent, ignore_errors=True)
    write_json(
        stored,
        {"name": arm.name, "seed": seed, "examples": len(place.train), "failed": failed, **found},
    )
    return failed


def _answered(arm: Arm, fit: Fit, place: Workplace, exam: Exam) -> float:
    answerer = arm.open(place.task, place.labels, place.folder, fit.settings, place.pool)
    try:
        answers, _ = exam.ask(arm, answerer, place.reporter)
    finally:
        answerer.close()
    return exam.mark(arm.name, answers, place.folder).value


def _as_before(task: Task, record: dict[str, Any], *, whole: bool) -> tuple[Task, dict[str, Any]]:
    """(the task with the settings that the first fit came to, those settings): those that it
    searched for, and, on all rows, its epochs. On a part of the rows it would have other epochs by
    default; where the budget cut those of the first fit, the part is cut as well, or the last point
    of a learning curve would be that of an arm that was trained for less than the others."""
    searched = task.training.tune is not None
    cut = record.get("full_epochs") is not None
    keys = _SEARCHED if searched else ("epochs",) if whole or cut else ()
    config = (record.get("settings") or {}).get("training") or {}
    found = {key: config[key] for key in keys if key in config}
    if not found and not searched:
        return task, {}
    return task.changed(training=task.to_dict()["training"] | {"tune": None} | found), found
