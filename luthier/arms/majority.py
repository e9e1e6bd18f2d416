"""The floor: always the most common training answer. What cannot beat it has learned nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier.arms.base import ARMS, Answerer, Arm, Fit, Progress, Workplace
from luthier.data.examples import Conversation
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions
from luthier.models.pool import ModelPool
from luthier.task import Task


@ARMS.register("majority")
class Majority(Arm):
    """Answers every question with the training set's most common answer."""

    name = "majority"
    title = "Most common answer"
    floor = True
    order = 0

    def fit(self, place: Workplace) -> Fit:
        """Count."""
        counted = Counter(example.output for example in place.train)
        most = max(counted.values())
        # the first in alphabetical order among equals, so that the run can be repeated
        answer = min(text for text, count in counted.items() if count == most)
        return Fit(
            settings={"answer": answer},
            notes=[f"{most} of {len(place.train)} training examples have this answer."],
            costs={"train_seconds": 0.0, "trained_parameters": 0, "total_parameters": 0},
        )

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The answerer."""
        return _Constant(settings["answer"])


class _Constant(Answerer):
    name = "majority"

    def __init__(self, text: str) -> None:
        self._text = text

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """The same to all."""
        return [Answer(self._text, seconds=0.0) for _ in conversations]
