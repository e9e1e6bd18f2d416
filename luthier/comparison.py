"""One comparison under way: each arm fitted, asked, scored and written down, then the verdict.

Each step leaves whole files, so that a run can be continued after an interruption at any moment.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from luthier.aftermath import Aftermath, with_canaries
from luthier.arms.base import ARMS, Arm, Workplace
from luthier.arms.grounded import named_documents
from luthier.arms.planning import Planned
from luthier.court import Court
from luthier.data.prepare import Prepared
from luthier.data.schemas import answer_schema
from luthier.evaluation.clusters import clusters_of
from luthier.evaluation.scoring import deciding_metric
from luthier.exam import Exam
from luthier.examine import Examined
from luthier.files import read_json, write_json
from luthier.generation.answers import Answer
from luthier.measures import measures_of_run, vectors_of
from luthier.models.pool import ModelPool
from luthier.pilots import (
    FEWEST,
    NOT_WANTED,
    chosen_arm,
    curve_of,
    missing_curves,
    pilot_fits,
    time_allowed,
)
from luthier.progress import Reporter
from luthier.refits import refit
from luthier.results import REFITS, SEED, arm_result, record_of
from luthier.runs import Run, reason_of
from luthier.task import Task
from luthier.verdict.compare import ArmResult, compare
from luthier.verdict.compare import Comparison as Compared
from luthier.verdict.decide import decide
from luthier.verdict.document import build_verdict
from luthier.verdict.wording import listed

if TYPE_CHECKING:
    from luthier.evaluation.probe_items import Probes

JSON = dict[str, Any]


class Comparison:
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
        # seconds of earlier calls, and when this one began
        self._before, self._began = 0.0, time.monotonic()
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
        """All that is still to do, in what is left of the budget."""
        self._before, self._began = self.run.spent(), time.monotonic()
        deadline = self._began + 60 * self.task.budget.minutes - self._before
        self._warn_of_time()
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
            later = self.planned[self.planned.index(planned) + 1 :]
            needed = self._kept_for(later, arm, place) + self._looking_back(arm)
            self._do(arm, replace(place, minutes=max(0.5, left - needed / 60)))
        self._more_seeds(deadline)
        self.run.update_manifest(
            arms=[{"name": p.name, "why": p.why} for p in self.planned],
            left_out=[{"name": p.name, "why": p.why} for p in self.left_out],
        )
        self._decide(deadline)

    def _warn_of_time(self) -> None:
        """Arms that are named are run whatever they take; that is said before they do."""
        if self.task.arms == "auto":
            return
        waiting = [p.name for p in self.planned if not self.run.arm_record(p.name)]
        arms = [ARMS.get(name)() for name in waiting]
        needed = sum(self._least_seconds(arm, self._place(arm, 0.5)) for arm in arms) / 60
        budget = self.task.budget.minutes
        if needed > budget:
            self.reporter.say(
                f"The arms that are named need about {needed:.1f} minutes at the least, and the "
                f"budget is {budget:g}: all are run, trained and tried for as little as can be."
            )

    @cached_property
    def exam(self) -> Exam:
        """What every arm is asked; to be looked at once the court is there."""
        return Exam(
            self.task, self.test, self.metric, self.prepared.labels, self.schema, self._judge()
        )

    def _judge(self) -> Callable[[str, Sequence[Answer]], None] | None:
        court = self.court
        if court is None:
            return None
        inputs, outputs = [e.input for e in self.test], [e.output for e in self.test]
        return lambda name, answers: court.judge(name, inputs, outputs, answers)

    def _more_seeds(self, deadline: float) -> None:
        """Fit arms that depend on the seed with further ones, as far as the budget goes."""
        finished = [arm for arm in self.run.finished_arms() if ARMS.get(arm).seeded]
        for seed in range(self.task.seed + 1, self.task.seed + self.task.seeds):
            for name in finished:
                arm, record = ARMS.get(name)(), self.run.arm_record(name) or {}
                left = deadline - time.monotonic()
                folder = self.run.folder / REFITS / f"{name}.{SEED}-{seed}"
                done = (folder / "arm.json").is_file()
                if not done and self.task.arms == "auto" and left < float(record["seconds"]):
                    self.reporter.say(f"{name}: seed {seed} left out, the budget is spent")
                    continue
                if not done:
                    self.reporter.say(f"{name}: again, with seed {seed}")
                place = self._place(arm, left / 60)
                failed = refit(arm, place, self.exam, folder=folder, seed=seed, record=record)
                if failed:
                    self.reporter.say(f"{name}: seed {seed} failed: {failed}")

    def _pilots(self, name: str, deadline: float) -> str | None:
        """Fit an arm, the one whose learning curve is of interest, on parts of the rows.

        Returns:
            Why there are too few fits for a curve, or None.
        """
        wanted, rows = self.task.learning_curve, len(self.prepared.splits.train)
        if wanted is False:
            return NOT_WANTED
        if wanted == "auto" and rows < FEWEST:
            return f"parts of {rows} training rows are too small (fewer than {FEWEST} rows)"
        left = max(0.0, deadline - time.monotonic())
        record = self.run.arm_record(name) or {}
        seconds = float("inf") if wanted is True else time_allowed(record, left)
        arm = ARMS.get(name)()
        place = self._place(arm, left / 60)
        place = replace(place, train=self.prepared.splits.train)  # without canaries
        return pilot_fits(self.run, arm, place, self.exam, seconds)

    def _learning(self, recommended: str | None, scores: dict[str, float], deadline: float) -> JSON:
        """The learning curve, and which arms have none: keys of verdict.json."""
        chosen = chosen_arm(scores, recommended)
        why = self._pilots(chosen, deadline) if chosen else None
        curve = chosen and curve_of(self.run, chosen, self.exam, self.task.success)
        missing = missing_curves(scores, chosen, None if curve else why)
        for one in missing:
            self.reporter.say(one["said"])
        return {
            **({"learning_curve": curve} if curve else {}),
            **({"no_learning_curve": missing} if missing else {}),
        }

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
        needed = self._least_seconds(arm, place) / 60
        if needed <= place.minutes:
            return None
        return (
            f"it needs about {needed:.1f} minutes and {place.minutes:.1f} of the budget's "
            f"{self.task.budget.minutes:g} are left"
        )

    def _least_seconds(self, arm: Arm, place: Workplace) -> float:
        """What an arm needs, with the look at what it did to the model."""
        return arm.least_seconds(place, len(self.test)) + self._looking_back(arm)

    def _kept_for(self, later: Sequence[Planned], arm: Arm, place: Workplace) -> float:
        """Seconds of what is left that the arms still to come need at the least.

        Nothing is kept for one that will be left out for want of time: the arms before it would
        be trained for less, and what was kept would be nobody's.
        """
        room = 60 * place.minutes - self._least_seconds(arm, place)
        kept = 0.0
        for planned in later:
            least = self._least_seconds(ARMS.get(planned.name)(), place)
            if self.task.arms != "auto" or kept + least <= room:
                kept += least
        return kept

    def _looking_back(self, arm: Arm) -> float:
        return self.aftermath.seconds() if self.aftermath and arm.changes_weights else 0.0

    def _do(self, arm: Arm, place: Workplace) -> None:
        """Fit one arm, let it answer the test, and write what came of it."""
        self.reporter.event("arm", arm=arm.name)
        started = time.monotonic()
        try:
            record = self._results(arm, place)
        except Exception as error:
            reason = reason_of(error, arm.name, place.folder)
            self.reporter.event("failed", arm=arm.name, traceback=traceback.format_exc())
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
            with Energy() as answering:
                answers, seconds = self.exam.ask(arm, answerer, self.reporter)
        aftermath = changes.after(answerer) if changes else {}
        scored = self.exam.mark(arm.name, answers, place.folder)
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

    def _arm_results(self, clusters: Sequence[Hashable] | None) -> list[ArmResult]:
        """What the arms left in the folder."""
        gold = named_documents(self.test, self.task, self.run.folder)
        return [
            arm_result(
                self.run,
                p.name,
                kind=self.task.kind,
                labels=self.prepared.labels,
                metric=self.metric,
                schema=self.schema,
                gold=gold,
                clusters=clusters,
            )
            for p in self.planned
        ]

    def _decide(self, deadline: float) -> None:
        """Compare what the arms left in the folder, decide, and write verdict and report."""
        clusters, narrow = clusters_of(self.test)
        results = self._arm_results(clusters)
        compared = compare(results, self.metric, seed=self.task.seed, clusters=clusters)
        decision = decide(compared, self.task.success)
        scores = {arm.name: arm.score for arm in compared.arms if arm.score is not None}
        learning = self._learning(decision.recommendation, scores, deadline)
        self.pool.release()
        serious = [f.message for f in self.examined.findings if f.severity != "note"]
        serious += _low_ceilings(compared)
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
        if self.schema:
            verdict["answer_schema"] = {
                "given": self.schema.given,
                "schema": dict(self.schema.schema),
            }
        verdict |= learning
        if self.court:
            verdict["judge"] = read_json(self.run.folder / "judge.json")
        self.run.update_manifest(seconds=round(self._before + time.monotonic() - self._began, 3))
        write_json(self.run.folder / "verdict.json", verdict)
        from luthier.verdict.report import build_report

        build_report(self.run.folder)
        self.reporter.event(
            "verdict",
            decision=decision.decision,
            headline=decision.headline,
            scores={f"{one.name}/score": one.score for one in compared.arms},
        )


def _low_ceilings(compared: Compared) -> list[str]:
    """That an upper bound lies below what it should bound, which says something of the model."""
    said = []
    for bound in compared.arms:
        if bound.score is None or not ARMS.get(bound.name).ceiling:
            continue
        above = [
            arm.name
            for arm in compared.arms
            if (arm.score or 0.0) > bound.score and not ARMS.get(arm.name).floor
        ]
        if above:
            said.append(
                f"{bound.name} is meant as an upper bound and scores below {listed(above)}: shown "
                "the right passage, the untrained model answers no better. A model that reads "
                "better is wanted before a better search."
            )
    return said


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
