"""From a task to its locked splits."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.data.examples import Example, Splits
from luthier.data.labels import check_labels, check_single_rows, infer_labels
from luthier.data.reading import read_rows
from luthier.data.recipes import make_examples
from luthier.data.splits import make_splits
from luthier.errors import InputError
from luthier.task import Task


@dataclass(frozen=True)
class Prepared:
    """A task's data, ready for use.

    Attributes:
        splits: training, validation and test.
        labels: the labels of a classification, else None.
        notes: what was cut, left out or inferred, one sentence each.
    """

    splits: Splits
    labels: tuple[str, ...] | None
    notes: tuple[str, ...]


def prepare(task: Task) -> Prepared:
    """Read a task's rows, make them examples, and split them.

    The same task, files and seed give the same splits on any machine.

    Raises:
        InputError: rows that cannot be read or used, an output that is no label, a class with a
            single row, too few rows to cut a split from, or raw text (`texts.prepare_texts` reads
            that). The message names the file and row.
        ModelError: a hub that cannot be reached.
    """
    data = task.data
    if data.text is not None:
        raise InputError(
            f"{task.path}: the data are raw text (`data.text`), which can only be trained on.",
            fix="Use `luthier train`; compare what comes of it on a task with questions.",
        )
    train = _examples(task, data.train)
    validation = _examples(task, data.validation) if data.validation is not None else None
    test = _examples(task, data.test) if data.test is not None else None
    notes: list[str] = []
    labels = None
    classify = task.kind == "classification"
    if classify:
        labels = task.labels or infer_labels(train)
        if task.labels is None:
            shown = ", ".join(labels[:20]) + ", ..." * (len(labels) > 20)
            notes.append(f"labels: {len(labels)} found in the training rows: {shown}.")
        if validation is None or test is None:
            check_single_rows(train)
        for examples in (train, validation or [], test or []):
            check_labels(examples, labels, task.labels is not None)
    splits, cut = make_splits(
        train, validation, test, limit=data.limit, seed=task.seed, stratify=classify
    )
    shared = _shared_groups(splits)
    if shared:
        notes.append(
            f"group: {shared} group{'s' * (shared != 1)} of column {data.group!r} "
            "are in the training file and in the validation or test file."
        )
    return Prepared(splits, labels, (*notes, *cut))


def _examples(task: Task, source: str) -> list[Example]:
    return make_examples(read_rows(source, task.folder), task.data)


def _shared_groups(splits: Splits) -> int:
    train = {example.group for example in splits.train}
    others = {example.group for example in (*splits.validation, *splits.test)}
    return len((train & others) - {None})
