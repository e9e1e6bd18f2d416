"""The comparison: every arm on one locked test, and the verdict.

The order: read and split the data, look at it, lock it in the run folder; fit each arm on training
and validation, let it answer the test, write its results; compare, decide, report. Each step leaves
whole files, so the run can be continued after an interruption at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from luthier.aftermath import probes_of
from luthier.arms.base import ARMS
from luthier.arms.planning import choose_arms
from luthier.comparison import Comparison
from luthier.court import Court
from luthier.data.prepare import prepare
from luthier.data.sources import understood
from luthier.errors import InputError, RunError
from luthier.evaluation.scoring import deciding_metric
from luthier.examine import Examined, examine
from luthier.files import read_json, short, write_json
from luthier.manifest import write_manifest
from luthier.progress import Reporter
from luthier.runs import Run, anchored, identity_of
from luthier.task import Task
from luthier.trackers.base import choose, tracking
from luthier.training.search import needs_optuna


def run(
    task: Task | str | Path,
    *,
    out: str | Path | None = None,
    arms: Sequence[str] | None = None,
    seed: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
    warn: Callable[[Examined], None] | None = None,
    command: str = "",
    tune: int | None = None,
    seeds: int | None = None,
    learning_curve: bool | None = None,
    track: str | None = None,
) -> Run:
    """Compare every way of doing a task, and decide.

    Args:
        task: a task, or the path of its file.
        out: the run folder; by default runs/NAME, or runs/NAME-2 and so on when that is taken.
        arms: instead of the task's own.
        seed: instead of the task's own.
        minutes: budget, instead of the task's own.
        resume: continue the run in `out` (by default the newest one of this task).
        reporter: hears of the progress.
        warn: shown what the look at the data found, before time is spent; may raise to stop.
        command: how the run was started, for the report.
        tune: how many settings of training each tuned arm tries, instead of the task's own
            `training.tune`.
        seeds: with how many seeds arms that depend on one are fitted, instead of the task's own.
        learning_curve: whether pilot fits on parts of the data show what more of it would bring,
            instead of the task's own.
        track: log to a tracker as well: NAME or NAME:TARGET (`luthier.trackers`).

    Raises:
        InputError: the task or its data cannot be used; nothing has been spent.
        RunError: the folder cannot be used, or the disk is full; what was done is kept.
    """
    if not isinstance(task, Task):
        task = Task.load(task)
    changes: dict[str, Any] = {}
    if arms is not None:
        changes["arms"] = "auto" if list(arms) == ["auto"] else tuple(arms)
    if seed is not None:
        changes["seed"] = seed
    if minutes is not None:
        changes["budget"] = {"minutes": minutes}
    if seeds is not None:
        changes["seeds"] = seeds
    if learning_curve is not None:
        changes["learning_curve"] = learning_curve
    if tune is not None:
        changes["training"] = {**task.to_dict()["training"], "tune": tune}
    task = anchored(understood(task.changed(**changes)))
    reporter = reporter or Reporter()
    tracker = choose(track) if track else None
    if task.training.tune:
        needs_optuna()

    _check_metric(task)
    court = Court(task, reporter) if task.judge else None
    planned, left_out = choose_arms(task)
    probes = probes_of(task) if any(ARMS.get(p.name).changes_weights for p in planned) else None
    prepared = prepare(task, reporter)
    identity = identity_of(task, prepared.splits, prepared.labels)
    held = Run(Path(out) if out else _default_folder(task, identity, resume))
    with held.locked():
        for note in prepared.notes:
            reporter.say(note)
        held.check_free(identity, resume=resume)
        if out is None:
            reporter.say(f"Run folder: {short(held.folder)}")
            if unfinished := _unfinished(task, identity, held.folder):
                reporter.say(
                    f"{unfinished} holds this very run, unfinished: --resume --out {unfinished} "
                    "would have gone on with it."
                )
        examined = examine(task, prepared, reporter)
        if warn:
            warn(examined)
        _refuse_overlong(task, examined)
        held.start(task, prepared.splits, prepared.labels)
        write_json(held.folder / "lint.json", examined.to_dict())
        write_manifest(held, task, prepared, planned, left_out, identity, command)
        with tracking(
            tracker, reporter, task=task.name, folder=held.folder, settings=task.to_dict()
        ) as heard:
            comparison = Comparison(held, task, prepared, planned, left_out, examined, heard)
            if probes:
                comparison.looks_back(probes)
            if court:
                court.hold(held.folder)
                comparison.court = court
            comparison.finish()
    return held


def _check_metric(task: Task) -> None:
    try:
        deciding_metric(task.scored_by, task.kind)
    except InputError as error:
        raise InputError(f"{task.path}: `metric`: {error.message}", fix=error.fix) from None


def _refuse_overlong(task: Task, examined: Examined) -> None:
    """Rows that do not fit are the user's to decide about, before anything is spent."""
    for finding in examined.findings:
        if finding.lint == "overlong" and finding.severity == "error":
            raise InputError(f"{task.path}: {finding.message}", fix=finding.fix)


def _default_folder(task: Task, identity: str, resume: bool) -> Path:
    """runs/NAME, or the first of NAME-2, NAME-3, ... that is free; to resume, the newest one that
    holds this very run, an unfinished one before those that are finished."""
    folders = _folders(task)
    if not resume:
        return folders[-1]
    same = [folder for folder in reversed(folders) if _holds(folder, identity)]
    if same:
        return min(same, key=_finished)
    raise RunError(
        f"There is no run of {task.name!r} with this data and these settings in runs/.",
        fix="Leave out --resume, or name the folder with --out.",
    )


def _folders(task: Task) -> list[Path]:
    """runs/NAME, NAME-2, ... as far as they are there, and the next one."""
    first = Path("runs") / task.name
    folders = [first]
    while folders[-1].exists():
        folders.append(first.with_name(f"{task.name}-{len(folders) + 1}"))
    return folders


def _holds(folder: Path, identity: str) -> bool:
    manifest = folder / "manifest.json"
    return manifest.is_file() and read_json(manifest).get("task_hash") == identity


def _finished(folder: Path) -> bool:
    return (folder / "verdict.json").is_file()


def _unfinished(task: Task, identity: str, but: Path) -> Path | None:
    """Another folder below runs/ that an interrupted call of this run left."""
    for folder in reversed(_folders(task)):
        other = folder.resolve() != but.resolve()
        if other and not _finished(folder) and _holds(folder, identity):
            return folder
    return None
