"""`luthier check`: is this what a careful expert would train on?"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.verbs.options import Json, TaskFile

if TYPE_CHECKING:
    from luthier.data.fixing import Fixed
    from luthier.examine import Examined
    from luthier.task import Task


def check(
    task: TaskFile,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.jsonl",
            help="Write the training rows with safe fixes there, and a log; look at those.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look at a task's data: what is wrong, what the model will see, what it will take."""
    from luthier.data.prepare import prepare
    from luthier.data.sources import understood
    from luthier.display import Display, out
    from luthier.examine import examine
    from luthier.task import Task

    loaded = understood(Task.load(task))
    fixed = None
    if fix is not None:
        loaded, fixed = _fix(loaded, fix)
    reporter = Display()
    prepared = prepare(loaded, reporter)
    examined = examine(loaded, prepared, reporter)
    if as_json:
        document = examined.to_dict()
        if fixed is not None:
            document["fixed"] = fixed.to_dict()
        print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        from luthier.display_check import check as show

        show(
            out,
            examined,
            prepared.notes,
            following=_following(task, examined, fix, fixed),
            fixed=fixed,
        )
    if not examined.ok:
        raise typer.Exit(1)


def _fix(task: Task, out: Path) -> tuple[Task, Fixed]:
    """The task with the fixed rows in place of its own, and what was done."""
    from luthier.data.fixing import fix_file
    from luthier.display import Display
    from luthier.errors import InputError

    if task.data.format and (task.data.validation or task.data.test):
        raise InputError(
            f"--fix writes the rows of {task.data.train} in one form, and the validation and test "
            f"files would stay in another (`data.format: {task.data.format}`).",
            fix="Convert the files first (`luthier convert`), name the new ones, and leave out "
            "`format`.",
        )
    fixed = fix_file(task, out, Display())
    # named as short as it can be: rows are called by it
    place = os.path.relpath(out.absolute(), task.folder)
    # the rows of a format are written as such, and are of none any more
    data = {**task.to_dict()["data"], "train": place, "format": None}
    return task.changed(data=data), fixed


def _following(task: Path, examined: Examined, fix: Path | None, fixed: Fixed | None) -> str:
    """What to type next."""
    if fixed is not None:
        if not fixed.changes:
            return f"rm {fix} {fixed.log}: there was nothing to fix."
        return f"set `data.train: {fix}` in the task, then luthier check {shlex.quote(str(task))}"
    if any(finding.fixable for finding in examined.findings):
        return f"luthier check {shlex.quote(str(task))} --fix fixed.jsonl"
    if not examined.ok:
        return f"mend the errors, then luthier check {shlex.quote(str(task))}"
    return f"luthier run {shlex.quote(str(task))}"
