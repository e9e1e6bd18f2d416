"""A run as a comparison of runs needs it: its task, its locked test, its arms scored again.

Scores are computed from predictions.jsonl by the metric as it is here, so that runs made by
different versions of Luthier are held to one and the same scorer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from luthier.arms.base import ARMS
from luthier.data.examples import Example
from luthier.errors import InputError, LuthierError, RunError
from luthier.evaluation.metrics.win_rate import WIN_RATE
from luthier.evaluation.scoring import Metric, deciding_metric
from luthier.files import read_jsonl
from luthier.results import PREDICTIONS, arm_result
from luthier.runs import Run
from luthier.task import Task
from luthier.verdict.compare import ArmResult
from luthier.verdict.evidence import JSON, Evidence, mapping, read_run
from luthier.verdict.formatting import number

#: What the signature of a metric is called.
SETTINGS = "settings of the metric"
#: Scores further apart than this are not the same; predictions.jsonl and JSON keep more.
_SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Side:
    """One of the runs.

    Attributes:
        name: short, and unlike that of any other run.
        run: the folder.
        evidence: what the folder holds, as the report reads it.
        task: as it was run.
        metric: that decides it.
        test: its locked test.
    """

    name: str
    run: Run
    evidence: Evidence
    task: Task
    metric: Metric
    test: tuple[Example, ...]

    @property
    def manifest(self) -> JSON:
        """manifest.json."""
        return self.evidence.manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels its arms know; none for other kinds than classification."""
        return self.run.labels or ()

    def scorer(self) -> dict[str, str]:
        """All that decides what a score means, by what it is called."""
        held = {
            "kind of task": self.task.kind,
            "metric": self.metric.name,
            SETTINGS: self.metric.signature(),
        }
        if self.metric.name == WIN_RATE and self.task.judge is not None:
            held["judge"] = f"{self.task.judge.model} {self.task.judge.endpoint or ''}".strip()
        return held

    def scored(self, labels: tuple[str, ...]) -> tuple[list[ArmResult], list[str]]:
        """Its arms, each on all of the test in the test's order, and what is to be said of them.

        Args:
            labels: that answers are matched with: those of all runs that are compared.

        Returns:
            (arms, notes); an arm that has no answers to the whole test, or that this version does
            not know, is a failed one.
        """
        place = {example.id: row for row, example in enumerate(self.test)}
        results, notes = [], []
        for held in self.evidence.arms:
            if held.failed:
                results.append(ArmResult(held.name, None, failed=held.failed))
                continue
            try:
                result = self._scored(held.name, labels, place)
            except LuthierError as error:
                results.append(ArmResult(held.name, None, failed=error.message))
                continue
            results.append(result)
            value = self._value(result)
            said = number(held.result.get("score"))
            if labels == self.labels and said is not None and abs(value - said) > _SAME:
                notes.append(
                    f"{held.name} of {self.name} scores {value:.4f} by this version's "
                    f"{self.metric.title}; its own verdict says {said:.4f}."
                )
        return results, notes

    def _scored(self, name: str, labels: tuple[str, ...], place: dict[str, int]) -> ArmResult:
        if name not in ARMS:
            raise RunError(f"this version of Luthier knows no arm of this name ({name})")
        rows = [row.get("id") for row in read_jsonl(self.run.arm_folder(name) / PREDICTIONS)]
        if sorted(map(str, rows)) != sorted(place):
            raise RunError(
                f"its {PREDICTIONS} holds {len(rows):,} answers to other rows than the "
                f"{len(place):,} of the test"
            )
        result = arm_result(
            self.run, name, kind=self.task.kind, labels=labels or None, metric=self.metric
        )
        if result.failed is not None or result.statistics is None:
            raise RunError(result.failed or "it has no score")
        order = np.argsort([place[str(key)] for key in rows])
        return taken(result, order.tolist(), name)

    def _value(self, result: ArmResult) -> float:
        assert result.statistics is not None
        return float(np.mean(self.metric.value(result.statistics.sum(axis=-2))))


def taken(result: ArmResult, rows: Sequence[int], name: str) -> ArmResult:
    """An arm's result on some rows of its test, under another name.

    Args:
        result: on the whole test.
        rows: places in the test, in the order wanted.
        name: that it gets.
    """
    if result.statistics is None:
        return replace(result, name=name)
    return replace(
        result,
        name=name,
        statistics=result.statistics[..., list(rows), :],
        row_scores=None if result.row_scores is None else result.row_scores[..., list(rows)],
    )


def open_sides(folders: Sequence[str | Path]) -> list[Side]:
    """Open the runs.

    Raises:
        InputError: fewer than two are named, or a file of one of them cannot be read.
        RunError: a folder is no run, or a run is not finished.
    """
    if len(folders) < 2:
        raise InputError(
            "One run alone cannot be compared." if folders else "No run is named.",
            fix="Name two or more: `luthier compare RUN RUN`. Of one run, report.html says all.",
        )
    runs = [Run.open(folder) for folder in folders]
    for run in runs:
        _ = run.verdict  # an unfinished run is told before anything is read
    names = short_names([run.folder for run in runs])
    return [_open(run, name) for run, name in zip(runs, names, strict=True)]


def _open(run: Run, name: str) -> Side:
    evidence = read_run(run.folder)
    task = run.task
    path = run.folder / "data" / "test.jsonl"
    try:
        test = tuple(Example.from_row(row) for row in read_jsonl(path))
    except (KeyError, TypeError, AttributeError, IndexError):
        raise InputError(
            f"{path} holds rows that are no examples.", fix="Copy the file from the run again."
        ) from None
    if not test or not mapping(evidence.verdict).get("arms"):
        raise RunError(
            f"{run.folder} has no {'test rows' if not test else 'arms in its verdict'}.",
            fix="Run the task again.",
        )
    metric = deciding_metric(task.scored_by, task.kind)
    return Side(name, run, evidence, task, metric, test)


def short_names(folders: Sequence[Path]) -> list[str]:
    """For each folder as much of the end of its path as tells it from the others; a folder that
    is named twice gets a number."""
    parts = [folder.resolve().parts for folder in folders]
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        length = 1
        while length < len(own) and any(other[-length:] == own[-length:] for other in others):
            length += 1
        names.append("/".join(own[-length:]))
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if names.count(name) > 1 and seen[name] > 1:
            names[index] = f"{name} ({seen[name]})"
    return names
