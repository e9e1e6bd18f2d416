"""Choosing on validation how the answers of a language model are read.

A classification can be read in three ways: let the model write the label; compare the likelihood
of all labels; or compare the likelihoods less those the model gives without a question (contextual
calibration, Zhao et al. 2021, arXiv 2102.09690, with PMI-style subtraction), which takes out its
liking for some labels. Which one serves is chosen on validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from luthier.arms.base import Choice, Workplace
from luthier.arms.prompted import (
    CALIBRATED,
    GENERATE,
    LIKELIHOOD,
    PromptedAnswerer,
    Reading,
    best_label,
    fitting,
)
from luthier.data.examples import Conversation, Example, Message
from luthier.evaluation.scoring import ScoringRows, score
from luthier.generation.answers import Answer
from luthier.prompts.prompt import Prompt
from luthier.task import Task

if TYPE_CHECKING:
    from luthier.generation.local import Generator

#: Questions without content, to learn which labels the model likes anyway.
EMPTY_QUESTIONS = ("N/A", "...", "[none]")


def longest_answer(task: Task, prompt: Prompt, train: Sequence[Example]) -> int:
    """How many tokens an answer may have: the task's wish, else a quarter more than all but one
    in fifty training answers needed."""
    if task.generation.max_new_tokens:
        return task.generation.max_new_tokens
    lengths = sorted(len(prompt.answer_ids(example.output)) for example in train)
    return int(1.25 * lengths[int(0.98 * (len(lengths) - 1))]) + 4


def conversations(examples: Sequence[Example]) -> list[Conversation]:
    """What is asked."""
    return [example.messages for example in examples]


def score_on(place: Workplace, examples: Sequence[Example], answers: Sequence[Answer]) -> float:
    """The task's metric on validation answers."""
    rows = ScoringRows(
        kind=place.task.kind,
        inputs=[e.input for e in examples],
        references=[e.output for e in examples],
        predictions=[a.text for a in answers],
        labels=place.labels,
    )
    return score(place.task.chosen_by, rows).value


def read_best(
    place: Workplace,
    name: str,
    generator: Generator,
    prompt: Prompt,
    examples: Sequence[Example],
    context_length: int,
) -> tuple[Reading, float, list[dict[str, Any]]]:
    """Choose the way of reading a prompt on validation examples.

    Returns:
        (the way, its validation score, all ways with their scores).
    """
    asked = conversations(examples)
    longest = longest_answer(place.task, prompt, place.train)

    def validate(reading: Reading) -> float:
        answerer = PromptedAnswerer(
            name,
            generator,
            prompt,
            reading,
            task=place.task,
            labels=place.labels,
            context_length=context_length,
        )
        with place.reporter.work(f"{name}: trying on validation", len(asked)) as bar:
            return score_on(place, examples, answerer.answer(asked, progress=bar.advance))

    written = Reading(GENERATE, longest)
    if not examples:
        return written, 0.0, []
    results = [(validate(written), written)]
    if place.labels:
        results += _by_likelihood(place, name, generator, prompt, examples, written, context_length)
    # among equals the first: writing the answer works in every engine
    value, best = max(results, key=lambda result: result[0])
    return best, value, [{"value": way.way, "score": v} for v, way in results]


def _by_likelihood(
    place: Workplace,
    name: str,
    generator: Generator,
    prompt: Prompt,
    examples: Sequence[Example],
    written: Reading,
    context_length: int,
) -> list[tuple[float, Reading]]:
    """Validation scores of comparing the labels' likelihoods, plain and calibrated; one pass."""
    assert place.labels is not None
    label_ids = [prompt.answer_ids(label) for label in place.labels]
    room = context_length - max(map(len, label_ids))
    empty = [fitting(prompt, (Message("user", text),), room)[0] for text in EMPTY_QUESTIONS]
    asked = [fitting(prompt, example.messages, room)[0] for example in examples]
    with place.reporter.work(f"{name}: comparing labels", len(asked)) as bar:
        scores, _ = generator.score([*asked, *empty], label_ids, bar.advance)
    liking = scores[len(asked) :]
    bias = tuple(round(sum(column) / len(column), 6) for column in zip(*liking, strict=True))
    results = []
    for way in (
        Reading(LIKELIHOOD, written.max_new_tokens),
        Reading(CALIBRATED, written.max_new_tokens, bias),
    ):
        answers = [
            Answer(place.labels[best_label(row, way)], seconds=0.0) for row in scores[: len(asked)]
        ]
        results.append((score_on(place, examples, answers), way))
    return results


def reading_choice(options: list[dict[str, Any]], reading: Reading, rows: int) -> Choice:
    """The record of `read_best`."""
    return Choice(
        what="how the answer is read",
        options=options,
        chosen=reading.way,
        why=f"the highest score on {rows} validation examples",
    )
