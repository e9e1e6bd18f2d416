"""Tuning on passages: the model learns to answer from what is found, and past what is beside it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from luthier.arms.base import ARMS, Answerer, Fit, Workplace
from luthier.arms.grounded import (
    GroundedAnswerer,
    Reader,
    gold_of,
    index_of,
    question_of,
    scope_of,
    with_passages,
    without_documents,
)
from luthier.arms.prompted import Reading, longest_answer
from luthier.arms.rag import choose_reader
from luthier.arms.tuned import TunedArm, open_tuned
from luthier.data.examples import Example
from luthier.errors import InputError
from luthier.evaluation.metrics.squad import abstains
from luthier.models.pool import ModelPool
from luthier.retrieval.grounding import FORM, NOT_FOUND, support_of
from luthier.retrieval.passages import Passage, Retriever
from luthier.task import Task

#: Passages of a training row, and the share of rows whose right passage is held back.
_SHOWN = 3
_WITHOUT = 0.2


@ARMS.register("lora+rag")
class LoraRag(TunedArm):
    """LoRA on questions with passages, as in RAFT (Zhang et al. 2024, arXiv 2403.10131): the right
    passage among others that are like it, in a random place, and an answer that says which it is.

    In a fifth of the rows the right passage is held back. RAFT keeps their answers, to be learned
    by heart; here they become `NOT_FOUND`, because whoever serves documents wants to be told.
    """

    name = "lora+rag"
    title = "LoRA with retrieval"
    method: ClassVar[str] = "lora"
    in_auto = True
    order = 70

    def unsuited(self, task: Task) -> str | None:
        """See `Arm.unsuited`."""
        return without_documents(self.name, task) or super().unsuited(task)

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """As plain tuning, with three passages to read in every row."""
        sample = place.train[:50]
        length = sum(len(e.input) for e in sample) / max(1, len(sample))
        more = 1 + _SHOWN * place.task.retrieval.size / max(1.0, length)
        return float(more * super().least_seconds(place, tests))

    def train(self, place: Workplace) -> dict[str, Any]:
        """Train on rows with passages; see the class."""
        from luthier.training.stage import train_stage

        task = place.task
        index = index_of(task, place.folder, place.pool, place.reporter)
        rows = raft_rows(place.train, task, index, seed=task.seed)
        held = raft_rows(place.validation, task, index, seed=task.seed, without=0.0)
        return train_stage(
            model_name=task.model,
            base=task.folder,
            instruction=task.instruction,
            examples=rows,
            wishes=task.wishes,
            method=self.method,
            seed=task.seed,
            folder=place.folder,
            reporter=place.reporter,
            minutes=place.minutes,
            validation=held,
        ).to_dict()

    @property
    def _searches(self) -> bool:
        return False

    def fit(self, place: Workplace) -> Fit:
        """Train, then choose on validation how many passages are shown."""
        fit = super().fit(place)
        answerer = self._opened(place.task, None, place.folder, Reading(), place.pool)
        longest = longest_answer(place.task, answerer.prompt, place.train) + 4  # and its mark
        answerer.reading = Reading(max_new_tokens=longest)
        index = index_of(place.task, place.folder, place.pool)
        wanted = place.task.retrieval
        # it was trained with this form and so many passages
        fixed = replace_retrieval(place, k=wanted.k or _SHOWN)
        reader, choices, notes = choose_reader(fixed, self.name, answerer, index, forms=(FORM,))
        answerer.close()
        fit.settings |= {
            "reading": Reading(max_new_tokens=longest).to_dict(),
            "reader": reader.to_dict(),
        }
        fit.choices += choices
        fit.notes += notes
        return fit

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The tuned model over the run's index."""
        inner = super().open(task, labels, folder, settings, pool)
        index = index_of(task, folder, pool)
        reader = Reader(**settings["reader"])
        return GroundedAnswerer(self.name, inner, index, scope_of(task), reader)


@ARMS.register("lora-then-rag")
class LoraThenRag(LoraRag):
    """The model of arm `lora`, which never saw a passage, given passages: what RAFT avoids."""

    name = "lora-then-rag"
    title = "LoRA, then retrieval"
    in_auto = False
    order = 71

    def fit(self, place: Workplace) -> Fit:
        """Take the tuned model of the same run."""
        other = place.folder.parent / "lora"
        if not (other / "model").is_dir():
            raise InputError(
                "lora-then-rag takes the model of arm lora, which this run does not have.",
                fix="Name lora in `arms` too.",
            )
        from luthier.files import read_json

        stage = read_json(other / "train.json")
        inner = open_tuned(
            self.name, other / "model", Reading(), task=place.task, labels=None, pool=place.pool
        )
        longest = longest_answer(place.task, inner.prompt, place.train)
        inner.close()
        index_of(place.task, place.folder, place.pool, place.reporter)
        wanted = place.task.retrieval
        reader = Reader(k=wanted.k or _SHOWN, least_support=wanted.least_support or 0.0)
        return Fit(
            settings={
                "reading": Reading(max_new_tokens=longest).to_dict(),
                "reader": reader.to_dict(),
            },
            costs={
                "train_seconds": stage["seconds"],
                "trained_parameters": stage["trained_parameters"],
                "total_parameters": stage["total_parameters"],
            },
        )

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The other arm's model over the run's index."""
        reading = Reading.from_dict(settings["reading"])
        model = folder.parent / "lora" / "model"
        inner = open_tuned(self.name, model, reading, task=task, labels=labels, pool=pool)
        reader = Reader(**settings["reader"])
        index = index_of(task, folder, pool)
        return GroundedAnswerer(self.name, inner, index, scope_of(task), reader)


def raft_rows(
    examples: Sequence[Example],
    task: Task,
    index: Retriever,
    *,
    seed: int,
    without: float = _WITHOUT,
    shown: int = _SHOWN,
) -> list[Example]:
    """Examples with passages before their questions.

    The right passage is the one that the row names (`retrieval.gold`), else the first of those
    found that holds the answer. A row whose answer stands in none of them teaches to say so, as
    does a share of the others whose right passage is left out.

    Args:
        examples: questions and answers.
        task: names the documents.
        index: of them.
        seed: decides which rows and places.
        without: the share of rows whose right passage is held back.
        shown: passages of a row.
    """
    found = index.search_many(
        [question_of(example.messages) for example in examples], shown + 2, scope=scope_of(task)
    )
    rows = []
    for example, passages in zip(examples, found, strict=True):
        numbers = random.Random(f"raft-{seed}-{example.id}")
        right, others = _right(example, passages, task, index)
        answered = not abstains(example.output)
        held_back = numbers.random() < without
        chosen = others[: shown - 1] if right and not held_back else others[:shown]
        output = example.output
        if right and not held_back:
            at = numbers.randint(0, len(chosen))
            chosen = [*chosen[:at], right, *chosen[at:]]
            output = f"{example.output} [{at + 1}]" if answered else NOT_FOUND
        else:
            output = NOT_FOUND
        messages = with_passages(example.messages, chosen, FORM)
        rows.append(replace(example, messages=messages, output=output))
    return rows


def _right(
    example: Example, passages: Sequence[Passage], task: Task, index: Retriever
) -> tuple[Passage | None, list[Passage]]:
    """(the right passage, the others that were found)."""
    gold = gold_of(example, task, index)
    if gold:
        same = [p for p in passages if _overlaps(p, gold[0])]
        others = [p for p in passages if p not in same]
        # as it would be found: a passage of the size that is shown, where the search has it
        return (same[0] if same else gold[0]), others
    if abstains(example.output):
        return None, list(passages)
    holding = [p for p in passages if support_of(example.output, p.text) == 1]
    return (holding[0] if holding else None), [p for p in passages if p not in holding]


def _overlaps(passage: Passage, gold: Passage) -> bool:
    return (
        passage.document == gold.document or passage.text in gold.text or gold.text in passage.text
    )


def replace_retrieval(place: Workplace, **changes: Any) -> Workplace:
    """The workplace with other wishes for retrieval."""
    values = {**place.task.retrieval.model_dump(mode="json"), **changes}
    return replace(place, task=place.task.changed(retrieval=values))
