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
    refused: Annotated[
        bool,
        typer.Option("--refused", help="Only list the rows that cannot be used, and why not."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Look at a task's data: what is wrong, what the model will see, what it will take."""
    if refused:
        _list_refused(task, as_json)
        return
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


def _list_refused(path: Path, as_json: bool) -> None:
    """Print every row that cannot be used; exit with 1 where there is one."""
    from luthier.data.prepare import refused_rows
    from luthier.data.refused import RefusedRow
    from luthier.display import Display
    from luthier.task import Task

    rows: list[RefusedRow] = []

    def say(row: RefusedRow) -> None:
        at = "" if row.source in row.reason else f"{row.source}: "
        print(f"{at}{' '.join(row.reason.split())}")

    task, each = Task.load(path), rows.append if as_json else say
    if task.data.text is not None:
        from luthier.data.texts import prepare_texts

        skipping = task.to_dict()["data"] | {"refused": "skip"}
        found = prepare_texts(task.changed(data=skipping)).refused
        for row in found.rows:
            each(row)
    else:
        found = refused_rows(task, each, Display())
    if as_json:
        document = {
            "count": found.count,
            "reasons": dict(found.reasons.most_common()),
            "rows": [vars(row) for row in rows],
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif found.count:
        print(f"{found.count:,} row{'s' * (found.count != 1)} cannot be used:")
        for reason, count in found.reasons.most_common():
            print(f"  {count:,}: {reason}")
    else:
        print("Every row can be used.")
    if found.count:
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
