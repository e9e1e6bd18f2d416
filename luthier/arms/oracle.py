"""The right passage in the prompt: what retrieval could reach if it never missed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier.arms.base import ARMS, Answerer, Fit, Progress, Workplace
from luthier.arms.grounded import gold_of, index_of, settled, with_passages, without_documents
from luthier.arms.prompted import (
    GENERATE,
    PromptedAnswerer,
    Reading,
    instructed,
    open_prompted,
    untrained,
)
from luthier.arms.rag import Rag
from luthier.arms.readings import longest_answer
from luthier.data.examples import Conversation, Example
from luthier.files import read_json
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions
from luthier.models.pool import ModelPool
from luthier.retrieval.grounding import FORM
from luthier.retrieval.passages import Passage
from luthier.task import Task


@ARMS.register("oracle")
class Oracle(Rag):
    """Shows the passage that each row names (`retrieval.gold`). It cannot be deployed."""

    name = "oracle"
    title = "Retrieval that never misses"
    order = 26
    ceiling = True

    def unsuited(self, task: Task) -> str | None:
        """See `Arm.unsuited`."""
        if why := without_documents(self.name, task):
            return why
        if not task.retrieval.gold:
            return f"{self.name} needs the column that names the right passage (`retrieval.gold`)"
        return None

    def fit(self, place: Workplace) -> Fit:
        """Nothing is chosen: it is asked as the reader of `rag` is asked by default."""
        task = place.task
        prompt = instructed(task, place.pool)
        index_of(task, place.folder, place.pool, place.reporter)
        form, least = FORM, 0.0
        stored = place.folder.parent / "rag" / "arm.json"
        if stored.is_file():  # so that the two differ in their passages alone
            reader = read_json(stored).get("settings", {}).get("reader", {})
            form, least = reader.get("form", form), reader.get("least_support", least)
        return Fit(
            settings={
                "model": task.model,
                "prompt": prompt.to_dict(),
                "reading": Reading(GENERATE, longest_answer(task, prompt, place.train)).to_dict(),
                "form": form,
                "least_support": least,
            },
            costs=untrained(task, place.pool),
            notes=["It is shown the right passage, so it cannot be deployed: an upper bound."],
        )

    def asked(
        self, examples: Sequence[Example], task: Task, answerer: Answerer
    ) -> list[Conversation]:
        """The questions, each with its row's passage; the answerer is told of it first."""
        assert isinstance(answerer, _OracleAnswerer)
        answerer.passages = [gold_of(example, task, answerer.index) for example in examples]
        return [example.messages for example in examples]

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The answerer; asked outside a comparison it has no passages."""
        del labels
        inner = open_prompted(self.name, settings, pool, task=task)
        index = index_of(task, folder, pool)
        return _OracleAnswerer(inner, index, settings["form"], settings["least_support"])


class _OracleAnswerer(Answerer):
    generates = True

    def __init__(self, inner: PromptedAnswerer, index: Any, form: str, least: float) -> None:
        self.name = inner.name
        self.inner, self.index, self.form, self.least = inner, index, form, least
        self.context_length = inner.context_length
        self.passages: list[list[Passage]] = []

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        found = self.passages or [[] for _ in conversations]
        shown = [
            with_passages(one, passages, self.form)
            for one, passages in zip(conversations, found, strict=True)
        ]
        answers = self.inner.answer(shown, options, progress)
        return [
            # an upper bound that is shown nothing knows that there is no answer
            settled(answer, passages, self.least if passages else 1.0)
            for answer, passages in zip(answers, found, strict=True)
        ]
