"""The exam: what every arm of a run is asked, how answers are marked and where they are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.arms.base import Answerer, Arm
from luthier.data.examples import Example
from luthier.data.schemas import AnswerSchema
from luthier.evaluation.scoring import Metric, Scored, score
from luthier.files import read_jsonl, write_jsonl
from luthier.generation.answers import Answer
from luthier.progress import Reporter
from luthier.results import PREDICTIONS, prediction_row, read_rows, scoring_rows
from luthier.task import Task


@dataclass(frozen=True)
class Exam:
    """One locked test, the same for every arm and for every fit of it.

    Attributes:
        task: that is run.
        test: the locked rows.
        metric: that decides.
        labels: of a classification, else None.
        schema: what structured answers are held against.
        judge: writes its judgement into the answers of an arm, where one decides.
    """

    task: Task
    test: Sequence[Example]
    metric: Metric
    labels: tuple[str, ...] | None
    schema: AnswerSchema | None
    judge: Callable[[str, Sequence[Answer]], None] | None = None

    def ask(self, arm: Arm, answerer: Answerer, reporter: Reporter) -> tuple[list[Answer], float]:
        """(the answers of an opened arm, seconds of each on average)."""
        asked = arm.asked(self.test, self.task, answerer)
        with reporter.work(f"{arm.name}: answering the test", len(asked)) as bar:
            started = time.perf_counter()
            answers = answerer.answer(asked, progress=bar.advance)
            return answers, (time.perf_counter() - started) / len(asked)

    def mark(self, name: str, answers: Sequence[Answer], folder: Path) -> Scored:
        """Score an arm's answers, and write them into a folder."""
        if self.judge:
            self.judge(name, answers)
        rows = scoring_rows(self.task.kind, self.labels, self.test, answers, self.schema)
        scored = score(self.metric.name, rows)
        write_jsonl(
            folder / PREDICTIONS,
            (
                prediction_row(example, answer, float(value))
                for example, answer, value in zip(
                    self.test, answers, scored.row_scores, strict=True
                )
            ),
        )
        return scored

    def marked(self, folder: Path) -> Scored:
        """The answers that lie in a folder, scored again."""
        rows = read_jsonl(folder / PREDICTIONS)
        return score(self.metric.name, read_rows(self.task.kind, rows, self.labels, self.schema))
