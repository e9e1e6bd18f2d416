"""The comparison: every arm on one locked test, and the verdict.

The order: read and split the data, look at it, lock it in the run folder; fit each arm on training
and validation, let it answer the test, write its results; compare, decide, report. Each step leaves
whole files, so the run can be continued after an interruption at any moment.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.aftermath import Aftermath, probes_of, with_canaries
from luthier.arms.base import ARMS, Arm, Workplace
from luthier.arms.planning import Planned, choose_arms
from luthier.arms.prompted import conversations
from luthier.court import Court
from luthier.data.prepare import Prepared, prepare
from luthier.data.schemas import answer_schema
from luthier.data.sources import understood
from luthier.errors import InputError, LuthierError, RunError
from luthier.evaluation.clusters import clusters_of
from luthier.evaluation.scoring import deciding_metric, score
from luthier.examine import Examined, examine
from luthier.files import read_json, write_json, write_jsonl
from luthier.manifest import write_manifest
from luthier.measures import measures_of_run, vectors_of
from luthier.models.pool import ModelPool
from luthier.progress import Reporter
from luthier.results import arm_result, prediction_row, record_of, scoring_rows
from luthier.runs import Run, anchored, disk_is_full, identity_of
from luthier.task import Task
from luthier.trackers.base import choose, tracking
from luthier.training.search import needs_optuna
from luthier.verdict.compare import compare
from luthier.verdict.decide import decide
from luthier.verdict.document import build_verdict

if TYPE_CHECKING:
    from luthier.evaluation.probe_items import Probes


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
    prepared = prepare(task)
    identity = identity_of(task, prepared.splits, prepared.labels)
    held = Run(Path(out) if out else _default_folder(task, identity, resume))
    with held.locked():
        for note in prepared.notes:
            reporter.say(note)
        held.check_free(identity, resume=resume)
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
            comparison = _Comparison(held, task, prepared, planned, left_out, examined, heard)
            if probes:
                comparison.looks_back(probes)
            if court:
                court.hold(held.folder)
                comparison.court = court
            comparison.finish()
    return held


class _Comparison:
    """One comparison under way."""

    def __init__(
        self,
        run: Run,
        task: Task,
        prepared: Prepared,
        planned: list[Planned],
        left_out: list[Planned],
        examined: Examined,
        reporter: Reporter,
    ) -> None:
        self.run = run
        self.task = task
        self.prepared = prepared
        self.planned = planned
        self.left_out = left_out
        self.examined = examined
        self.reporter = _Recording(reporter, run)
        self.pool = ModelPool(task.folder)
        self.test = prepared.splits.test
        self.metric = deciding_metric(task.scored_by, task.kind)
        self.schema = answer_schema(task, prepared.splits.train)
        self.aftermath: Aftermath | None = None
        self.court: Court | None = None

    def looks_back(self, probes: Probes) -> None:
        """Measure what arms that change weights forget, by these probes, and learn by heart."""
        splits = self.prepared.splits
        self.aftermath = Aftermath(
            self.task,
            splits.train,
            splits.validation,
            self.run.folder,
            self.pool,
            self.reporter,
            probes=probes,
        )

    def finish(self) -> None:
        """All that is still to do."""
        deadline = time.monotonic() + 60 * self.task.budget.minutes
        for planned in list(self.planned):
            if self.run.arm_record(planned.name) and not self._failed(planned.name):
                self.reporter.say(f"{planned.name}: done before")
                continue
            arm = ARMS.get(planned.name)()
            left = (deadline - time.monotonic()) / 60
            place = self._place(arm, left)
            if why := self._no_time(arm, place):
                self.planned.remove(planned)
                self.left_out.append(Planned(planned.name, why))
                self.reporter.say(f"{planned.name}: left out, {why}")
                self.reporter.event("left out", arm=planned.name, why=why)
                continue
            # what is left, less what the arms still to come need at the least
            later = self.planned[self.planned.index(planned) + 1 :]
            needed = sum(ARMS.get(p.name)().least_seconds(place, len(self.test)) for p in later)
            self._do(arm, replace(place, minutes=max(0.5, left - needed / 60)))
        self.pool.release()
        self.run.update_manifest(
            arms=[{"name": p.name, "why": p.why} for p in self.planned],
            left_out=[{"name": p.name, "why": p.why} for p in self.left_out],
        )
        self._decide()

    def _failed(self, name: str) -> bool:
        record = self.run.arm_record(name)
        return bool(record and record.get("failed"))

    def _place(self, arm: Arm, minutes: float) -> Workplace:
        splits = self.prepared.splits
        return Workplace(
            task=self.task,
            train=with_canaries(self.task, splits.train, self.reporter)
            if arm.changes_weights
            else splits.train,
            validation=splits.validation,
            labels=self.prepared.labels,
            folder=self.run.arm_folder(arm.name),
            pool=self.pool,
            reporter=self.reporter,
            minutes=max(0.5, minutes),
        )

    def _no_time(self, arm: Arm, place: Workplace) -> str | None:
        """Why the budget forbids this arm. An arm that was named is run all the same."""
        if self.task.arms != "auto":
            return None
        needed = arm.least_seconds(place, len(self.test)) / 60
        if needed <= place.minutes:
            return None
        return (
            f"it needs about {needed:.1f} minutes and {place.minutes:.1f} of the budget's "
            f"{self.task.budget.minutes:g} are left"
        )

    def _do(self, arm: Arm, place: Workplace) -> None:
        """Fit one arm, let it answer the test, and write what came of it."""
        self.reporter.event("arm", arm=arm.name)
        started = time.monotonic()
        try:
            record = self._results(arm, place)
        except RunError:
            raise  # the folder cannot be written: no other arm would fare better
        except Exception as error:
            if disk_is_full(error):
                raise RunError(
                    f"The disk is full: {arm.name} could not be stored in {place.folder}.",
                    fix="Free some space; what was written before is kept, and --resume continues.",
                ) from error
            self.reporter.event("failed", arm=arm.name, traceback=traceback.format_exc())
            reason = str(error) if isinstance(error, LuthierError) else f"{_named(error)}"
            self.reporter.say(f"{arm.name}: failed: {reason}")
            record = {"failed": reason, "settings": {}, "choices": [], "costs": {}, "notes": []}
        record["seconds"] = round(time.monotonic() - started, 3)
        write_json(
            place.folder / "arm.json",
            {
                "name": arm.name,
                "title": arm.title,
                "changes_weights": arm.changes_weights,
                "finished": True,
                **record,
            },
        )

    def _results(self, arm: Arm, place: Workplace) -> dict[str, Any]:
        from luthier.models.energy import Energy
        from luthier.models.machine import PeakMemory

        changes = self.aftermath if arm.changes_weights else None
        if changes:
            changes.before()
        with PeakMemory() as memory:
            with Energy() as fitting:
                fit = arm.fit(place)
            answerer = arm.open(
                self.task, self.prepared.labels, place.folder, fit.settings, self.pool
            )
            asked = conversations(self.test)
            label = f"{arm.name}: answering the test"
            with self.reporter.work(label, len(asked)) as bar, Energy() as answering:
                started = time.perf_counter()
                answers = answerer.answer(asked, progress=bar.advance)
                seconds = (time.perf_counter() - started) / len(asked)
        aftermath = changes.after(answerer) if changes else {}
        if self.court:
            self.court.judge(
                arm.name, [e.input for e in self.test], [e.output for e in self.test], answers
            )
        rows = scoring_rows(self.task.kind, self.prepared.labels, self.test, answers, self.schema)
        scored = score(self.metric.name, rows)
        write_jsonl(
            place.folder / "predictions.jsonl",
            (
                prediction_row(example, answer, float(value))
                for example, answer, value in zip(
                    self.test, answers, scored.row_scores, strict=True
                )
            ),
        )
        answerer.close()
        self.reporter.say(f"{arm.name}: {self.metric.title} {scored.value:.3f}")
        self.reporter.event(
            "arm done",
            arm=arm.name,
            metrics={self.metric.name: scored.value, "seconds_per_answer": seconds},
        )
        return record_of(
            fit,
            answers,
            seconds=seconds,
            peak=memory.bytes,
            joules=(fitting.joules, answering.joules),
            aftermath=aftermath,
        )

    def _decide(self) -> None:
        """Compare what the arms left in the folder, decide, and write verdict and report."""
        results = [
            arm_result(
                self.run,
                p.name,
                kind=self.task.kind,
                labels=self.prepared.labels,
                metric=self.metric,
                schema=self.schema,
            )
            for p in self.planned
        ]
        clusters, narrow = clusters_of(self.test)
        compared = compare(results, self.metric, seed=self.task.seed, clusters=clusters)
        decision = decide(compared, self.task.success)
        serious = [f.message for f in self.examined.findings if f.severity != "note"]
        left = [f"{p.name} was left out: {p.why}." for p in self.left_out if "budget" in p.why]
        verdict = build_verdict(
            self.task, len(self.test), compared, decision, warnings=[*narrow, *serious, *left]
        )
        verdict |= measures_of_run(
            verdict,
            results,
            self.task,
            metric=self.metric,
            splits=self.prepared.splits,
            clusters=clusters,
            vectors=vectors_of(self.run, self.pool, self.test),
        )
        if self.court:
            verdict["judge"] = read_json(self.run.folder / "judge.json")
        write_json(self.run.folder / "verdict.json", verdict)
        from luthier.verdict.report import build_report

        build_report(self.run.folder)
        self.reporter.event(
            "verdict",
            decision=decision.decision,
            headline=decision.headline,
            scores={f"{one.name}/score": one.score for one in compared.arms},
        )


class _Recording(Reporter):
    """Passes everything on, and writes events to the run."""

    def __init__(self, inner: Reporter, run: Run) -> None:
        self._run = run
        self._inner = inner
        self.work = inner.work  # type: ignore[method-assign]
        self.say = inner.say  # type: ignore[method-assign]

    def event(self, kind: str, **values: object) -> None:
        """A line of events.jsonl."""
        self._inner.event(kind, **values)
        self._run.event(kind, **values)


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


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _default_folder(task: Task, identity: str, resume: bool) -> Path:
    """runs/NAME, or the first of NAME-2, NAME-3, ... that is free; to resume, the newest one that
    holds this very run."""
    first = Path("runs") / task.name
    folders = [first]
    while folders[-1].exists():
        folders.append(first.with_name(f"{task.name}-{len(folders) + 1}"))
    if not resume:
        return folders[-1]
    for folder in reversed(folders):
        manifest = folder / "manifest.json"
        if manifest.is_file() and read_json(manifest).get("task_hash") == identity:
            return folder
    raise RunError(
        f"There is no run of {task.name!r} with this data and these settings in runs/.",
        fix="Leave out --resume, or name the folder with --out.",
    )
