"""From a task to its locked splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from luthier.data.examples import Example, Splits
from luthier.data.labels import check_labels, check_single_rows, infer_labels
from luthier.data.reading import SourceRow, stream_rows
from luthier.data.recipes import make_examples
from luthier.data.refused import Refused, RefusedRow
from luthier.data.sources import reading_note, understood
from luthier.data.splits import make_splits
from luthier.data.stored import Chosen, Joined, Stored, fingerprint
from luthier.data.streaming import is_large, rows_or_examples, stored_examples, stored_phrasings
from luthier.data.template_rows import (
    fixed_labels,
    labels_of_rows,
    mixing_note,
    rephrase,
    rephraser,
)
from luthier.errors import InputError
from luthier.files import hash_of
from luthier.program import program
from luthier.progress import Reporter
from luthier.task import Task


@dataclass(frozen=True)
class Prepared:
    """A task's data, ready for use.

    Attributes:
        splits: training, validation and test.
        labels: the labels of a classification, else None.
        notes: what was cut, left out or inferred, one sentence each.
        refused: rows that could not be used, where the task goes on without them.
    """

    splits: Splits
    labels: tuple[str, ...] | None
    notes: tuple[str, ...]
    refused: Refused = field(default_factory=Refused)


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
    refused = Refused()
    read = partial(_examples, task, notes=notes, reporter=reporter, refused=refused)
    train, train_rows = read(data.train, task.labels)
    # what a template of the library lets the model choose from is the same in every split
    known = task.labels
    if known is None and labels_of_rows(data):
        known = tuple(sorted({example.output for example in train}))
    validation = test = None
    validation_rows = test_rows = train_rows
    if data.validation is not None:
        validation, validation_rows = read(data.validation, known)
    if data.test is not None:
        test, test_rows = read(data.test, known)
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
        reporter=reporter,
        kept=_kept_cut(task, train, validation, test),
    )
    splits = Splits(
        _phrased(task, splits.train, data.train, train_rows, known, True, reporter),
        *(
            _phrased(task, examples, source or data.train, rows, known, False, reporter)
            for examples, source, rows in (
                (splits.validation, data.validation, validation_rows),
                (splits.test, data.test, test_rows),
            )
        ),
    )
    shared = _shared_groups(splits) if data.group is not None else 0
    if shared:
        notes.append(
            f"group: {shared} group{'s' * (shared != 1)} of column {data.group!r} "
            "are in the training file and in the validation or test file."
        )
    return Prepared(splits, labels, (*notes, *cut), refused)


def _kept_cut(
    task: Task,
    train: Sequence[Example],
    validation: Sequence[Example] | None,
    test: Sequence[Example] | None,
) -> Path | None:
    """Where it is kept which rows of a large source were chosen; None for a source that is cut in
    no time, or whose lock file decides."""
    if not isinstance(train, Stored) or task.data.split.lock:
        return None
    how = task.data.model_dump(mode="json", include={"limit", "split"})
    others = [None if rows is None else fingerprint(rows) for rows in (validation, test)]
    name = hash_of([program(), how, task.seed, task.kind == "classification", others])[:24]
    return train.folder / f"cut-{name}.npz"


def refused_rows(
    task: Task, each: Callable[[RefusedRow], None], reporter: Reporter | None = None
) -> Refused:
    """Look for the rows of a task's sources that cannot be used, whatever `data.refused` says.

    Args:
        task: with examples, not raw text.
        each: called with every such row.
        reporter: hears how far reading is.

    Raises:
        InputError: a source that cannot be read at all, or whose every row lacks a column.
    """
    task = task.changed(data=task.to_dict()["data"] | {"refused": "skip"})
    task = understood(task)
    refused = Refused(each=each)
    for source in (task.data.train, task.data.validation, task.data.test):
        if source is not None:
            before = refused.count
            try:
                _examples(task, source, task.labels, [], reporter, refused)
            except InputError:
                if refused.count == before:  # else none of the rows can be used, as is told of each
                    raise
    return refused


def _examples(
    task: Task,
    source: str,
    labels: tuple[str, ...] | None,
    notes: list[str],
    reporter: Reporter | None,
    refused: Refused,
) -> tuple[Sequence[Example], Sequence[SourceRow]]:
    """(the examples of a source, its rows where they are in memory); `refused` takes the rows that
    cannot be used where the task says so."""
    taking = refused if task.data.refused == "skip" else None
    before = refused.count
    rows: list[SourceRow] = []
    examples: Sequence[Example]
    if is_large(source, task.folder):
        examples = stored_examples(
            source, task.folder, task.data, reporter, taking, labels=labels, notes=notes
        )
    else:
        stream = stream_rows(source, task.folder, format=task.data.format, refused=taking)
        kept = None
        if task.data.template is None:
            rows, kept = rows_or_examples(stream, task.data, taking)
        else:
            rows = list(stream)
        examples = (
            kept
            if kept is not None
            else make_examples(rows, task.data, labels=labels, notes=notes, refused=taking)
        )
    left_out = refused.count - before
    if left_out and not len(examples):
        raise InputError(
            f"{source}: none of its {left_out:,} rows can be used.",
            fix=f"The first: {refused.rows[min(before, len(refused.rows) - 1)].reason}",
        )
    if left_out:
        notes.append(
            f"{source}: {left_out:,} of {left_out + len(examples):,} rows cannot be used and were "
            "left out (`data.refused: skip`); `luthier check TASK --refused` lists them."
        )
    return examples, rows


def _phrased(
    task: Task,
    examples: Sequence[Example],
    source: str,
    rows: Sequence[SourceRow],
    labels: tuple[str, ...] | None,
    train: bool,
    reporter: Reporter | None,
) -> Sequence[Example]:
    """The examples of a split in the phrasings that the task asks for it."""
    if isinstance(examples, Chosen) and isinstance(examples.held, Stored):
        held = stored_phrasings(
            examples.held, source, task.folder, task.data, labels, task.seed, train, reporter
        )
        return examples if held is None else Chosen(held, examples.places)
    choose = rephraser(task.data, task.seed, train)
    return rephrase(examples, rows, task.data, labels, choose) if choose else examples


def _shared_groups(splits: Splits) -> int:
    train = {example.group for example in splits.train}
    others = {example.group for example in Joined(splits.validation, splits.test)}
    return len((train & others) - {None})
