"""Any model asked any task's test: with the task's own instruction, answers written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from luthier.data.examples import Example
from luthier.data.prepare import Prepared
from luthier.evaluation.scoring import ScoringRows, deciding_metric, score
from luthier.evaluation.transfer import Column
from luthier.generation.answers import Answer
from luthier.progress import Reporter
from luthier.task import Task

if TYPE_CHECKING:
    from luthier.generation.local import Generator


def answer_test(
    name: str,
    generator: Generator,
    context_length: int,
    task: Task,
    prepared: Prepared,
    reporter: Reporter,
) -> list[Answer]:
    """Answers to a task's test, in its order.

    Answers are written, not chosen by likelihood, as for `luthier evaluate`: so whatever model
    answers, and whatever it was tuned on, it is measured in one way.

    Args:
        name: of who answers.
        generator: the model.
        context_length: tokens it reads at most.
        task: gives instruction, sampling and what to do with questions that are too long.
        prepared: its data.
        reporter: hears of the progress.
    """
    from luthier.arms.prompted import PromptedAnswerer, Reading
    from luthier.arms.readings import conversations, longest_answer
    from luthier.models.heads import stop_ids
    from luthier.prompts.prompt import Prompt

    prompt = Prompt(
        generator.tokenizer, instruction=task.instruction, stop_ids=stop_ids(generator.model)
    )
    answerer = PromptedAnswerer(
        name,
        generator,
        prompt,
        Reading(max_new_tokens=longest_answer(task, prompt, prepared.splits.train)),
        task=task,
        context_length=context_length,
    )
    test = prepared.splits.test
    with reporter.work(f"{name}: answering the test of {task.name}", len(test)) as bar:
        return answerer.answer(conversations(test), progress=bar.advance)


def scoring_rows(task: Task, prepared: Prepared, predictions: Sequence[str]) -> ScoringRows:
    """The answers to a task's test beside its references."""
    test = prepared.splits.test
    return ScoringRows(
        kind=task.kind,
        inputs=[example.input for example in test],
        references=[example.output for example in test],
        predictions=list(predictions),
        labels=prepared.labels,
    )


def clusters(test: Sequence[Example]) -> list[str] | None:
    """An id for each row where rows belong together and there are enough groups; else None."""
    from luthier.evaluation.clusters import clusters_of

    found, _ = clusters_of(test)
    return None if found is None or len(set(found)) == len(found) else found


def column(name: str, task: Task, prepared: Prepared, answers: Sequence[Sequence[str]]) -> Column:
    """A `transfer.Column` of a task, from the predictions of several models; chance is 0 and the
    stage the first."""
    metric = deciding_metric(task.chosen_by, task.kind)
    tables = [score(metric.name, scoring_rows(task, prepared, one)).statistics for one in answers]
    return Column(name, metric, tables, 0.0, 1, clusters(prepared.splits.test))
