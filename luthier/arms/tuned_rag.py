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
from luthier.arms.prompted import Reading
from luthier.arms.rag import choose_reader
from luthier.arms.readings import longest_answer
from luthier.arms.trained import trained
from luthier.arms.tuned import TunedArm, open_tuned
from luthier.data.examples import Example
from luthier.errors import InputError
from luthier.evaluation.metrics.squad import abstains, right_answers
from luthier.models.pool import ModelPool
from luthier.retrieval.grounding import FORM, NOT_FOUND, support_of
from luthier.retrieval.passages import Passage, Retriever
from luthier.task import Task

#: Passages of a training row, and the share of rows whose right passage is held back.
_SHOWN = 3
_WITHOUT = 0.2
#: The least support that a passage gives to an answer which is taken to stand in it.
_HOLDS = 0.75
_LEFT_OUT = (
    "{name}: {left} of {rows} training rows were left out: their answers stand in none of the "
    "passages found for them."
)


@ARMS.register("lora+rag")
class LoraRag(TunedArm):
    """LoRA on questions with passages, as in RAFT (Zhang et al. 2024, arXiv 2403.10131): the right
    passage among others that are like it, in a random place, and an answer that says which it is.

    A fifth of the rows at least have no answer to give: where fewer questions are unanswerable,
    the right passage of others is held back. RAFT keeps the answers of those, to be learned by
    heart; here they become `NOT_FOUND`, because whoever serves documents wants to be told.
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
        task = place.task
        index = index_of(task, place.folder, place.pool, place.reporter)
        shown = task.retrieval.k or _SHOWN
        rows = raft_rows(place.train, task, index, seed=task.seed, shown=shown)
        if not any(not abstains(row.output) for row in rows):
            raise InputError(
                "No training answer stands in the passages that were found for its question, so "
                "there is nothing to learn from them.",
                fix="Name the column with the right document (`retrieval.gold`), or leave "
                f"{self.name} out.",
            )
        held = raft_rows(place.validation, task, index, seed=task.seed, without=0.0, shown=shown)
        left = len(place.train) - len(rows)
        if left:
            place.reporter.say(_LEFT_OUT.format(name=self.name, left=left, rows=len(place.train)))
        found = trained(place, self.method, examples=rows, validation=held).to_dict()
        if left:
            said = _LEFT_OUT.format(name=self.name, left=left, rows=len(place.train))
            found["notes"] = [*found["notes"], said]
        return found

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
    learns = False
    no_curve = "its model is that of arm lora"
    seeded = False
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
        reader = Reader(
            k=wanted.k or _SHOWN,
            rerank=bool(wanted.rerank),
            least_support=wanted.least_support or 0.0,
        )
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

    The right passage is the one that the row names (`retrieval.gold`), else that of those found
    which holds the answer, or most of it. A row whose answer stands in none of them teaches
    nothing and is left out.

    Args:
        examples: questions and answers.
        task: names the documents.
        index: of them.
        seed: decides which rows and places.
        without: the share of rows that are to teach to say that there is no answer. Those whose
            question has none count; only what is missing is made, by holding the right passage
            of other rows back.
        shown: passages of a row.
    """
    found = index.search_many(
        [question_of(example.messages) for example in examples], shown + 2, scope=scope_of(task)
    )
    silent = sum(abstains(example.output) for example in examples) / max(1, len(examples))
    chance = max(0.0, without - silent) / (1 - silent) if silent < 1 else 0.0
    rows = []
    for example, passages in zip(examples, found, strict=True):
        numbers = random.Random(f"raft-{seed}-{example.id}")
        right, others = _right(example, passages, task, index)
        answered = not abstains(example.output)
        held_back = answered and numbers.random() < chance
        if right is None and answered:
            continue
        output = NOT_FOUND
        if right is None or held_back:
            chosen = others[:shown]
        else:
            chosen = others[: shown - 1]
            at = numbers.randint(0, len(chosen))
            chosen = [*chosen[:at], right, *chosen[at:]]
            output = f"{_one_answer(example.output)} [{at + 1}]" if answered else NOT_FOUND
        rows.append(
            replace(example, messages=with_passages(example.messages, chosen, FORM), output=output)
        )
    return rows


def _one_answer(output: str) -> str:
    """The first of the answers that a row allows: one is learned."""
    return right_answers(output)[0]


def _right(
    example: Example, passages: Sequence[Passage], task: Task, index: Retriever
) -> tuple[Passage | None, list[Passage]]:
    """(the right passage, the others that were found)."""
    answer = _one_answer(example.output)
    gold = gold_of(example, task, index)
    if gold:
        same = [p for p in passages if _overlaps(p, gold[0])]
        others = [p for p in passages if p not in same]
        # as it would be found, where the search has the piece of the document that answers
        holding = [p for p in same if abstains(answer) or support_of(answer, p.text) >= _HOLDS]
        return (holding[0] if holding else gold[0]), others
    if abstains(example.output):
        return None, list(passages)
    best = max(passages, key=lambda p: support_of(answer, p.text), default=None)
    if best is None or support_of(answer, best.text) < _HOLDS:
        return None, list(passages)
    return best, [p for p in passages if support_of(answer, p.text) < 1 and p is not best]


def _overlaps(passage: Passage, gold: Passage) -> bool:
    return (
        passage.document == gold.document or passage.text in gold.text or gold.text in passage.text
    )


def replace_retrieval(place: Workplace, **changes: Any) -> Workplace:
    """The workplace with other wishes for retrieval."""
    values = {**place.task.retrieval.model_dump(mode="json"), **changes}
    return replace(place, task=place.task.changed(retrieval=values))
