"""From a task to its locked splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.data.examples import Example, Splits
from luthier.data.labels import check_labels, check_single_rows, infer_labels
from luthier.data.reading import SourceRow, read_rows
from luthier.data.recipes import make_examples
from luthier.data.sources import reading_note, understood
from luthier.data.splits import make_splits
from luthier.data.stored import Joined
from luthier.data.streaming import is_large, stored_examples
from luthier.data.template_rows import fixed_labels, mixing_note, rephrase, rephraser
from luthier.errors import InputError
from luthier.progress import Reporter
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


def prepare(task: Task, reporter: Reporter | None = None) -> Prepared:
    """Read a task's rows, make them examples, and split them.

    The same task, files and seed give the same splits on any machine. Rows of large files stay in
    a file (`streaming`); `reporter` hears how far reading them is.

    Raises:
        InputError: rows that cannot be read or used, an output that is no label, a class with a
            single row, too few rows to cut a split from, or raw text (`texts.prepare_texts` reads
            that). The message names the file and row.
        ModelError: a hub that cannot be reached.
    """
    task = understood(task)
    data = task.data
    if data.text is not None:
        raise InputError(
            f"{task.path}: the data are raw text (`data.text`), which can only be trained on.",
            fix="Use `luthier train`; compare what comes of it on a task with questions.",
        )
    notes: list[str] = [*reading_note(task), *mixing_note(data)]
    train, train_rows = _examples(task, data.train, task.labels, notes, reporter)
    # what a template of the library lets the model choose from is the same in every split
    known = task.labels
    if known is None and data.template is not None:
        known = tuple(sorted({example.output for example in train}))
    validation = test = None
    validation_rows = test_rows = train_rows
    if data.validation is not None:
        validation, validation_rows = _examples(task, data.validation, known, notes, reporter)
    if data.test is not None:
        test, test_rows = _examples(task, data.test, known, notes, reporter)
    labels = None
    classify = task.kind == "classification"
    if classify:
        inferred = task.labels is None and fixed_labels(data) is None
        labels = task.labels or fixed_labels(data) or infer_labels(train)
        if inferred:
            shown = ", ".join(labels[:20]) + ", ..." * (len(labels) > 20)
            notes.append(f"labels: {len(labels)} found in the training rows: {shown}.")
        if validation is None or test is None:
            check_single_rows(train)
        for examples in (() if inferred else train, validation or (), test or ()):
            check_labels(examples, labels, task.labels is not None)
    splits, cut = make_splits(
        train,
        validation,
        test,
        limit=data.limit,
        seed=task.seed,
        stratify=classify,
        split=data.split,
        lock=task.folder / data.split.lock if data.split.lock else None,
    )
    splits = Splits(
        _phrased(task, splits.train, train_rows, known, True),
        _phrased(task, splits.validation, validation_rows, known, False),
        _phrased(task, splits.test, test_rows, known, False),
    )
    shared = _shared_groups(splits) if data.group is not None else 0
    if shared:
        notes.append(
            f"group: {shared} group{'s' * (shared != 1)} of column {data.group!r} "
            "are in the training file and in the validation or test file."
        )
    return Prepared(splits, labels, (*notes, *cut))


def _examples(
    task: Task,
    source: str,
    labels: tuple[str, ...] | None,
    notes: list[str],
    reporter: Reporter | None,
) -> tuple[Sequence[Example], Sequence[SourceRow]]:
    if task.data.template is None and is_large(source, task.folder):
        return stored_examples(source, task.folder, task.data, reporter), ()
    rows = read_rows(source, task.folder, format=task.data.format)
    return make_examples(rows, task.data, labels=labels, notes=notes), rows


def _phrased(
    task: Task,
    examples: Sequence[Example],
    rows: Sequence[SourceRow],
    labels: tuple[str, ...] | None,
    train: bool,
) -> Sequence[Example]:
    """The examples of a split in the phrasings that the task asks for it."""
    choose = rephraser(task.data, task.seed, train)
    return rephrase(examples, rows, task.data, labels, choose) if choose else examples


def _shared_groups(splits: Splits) -> int:
    train = {example.group for example in splits.train}
    others = {example.group for example in Joined(splits.validation, splits.test)}
    return len((train & others) - {None})
