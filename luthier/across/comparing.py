"""Runs against each other, by the statistics of a verdict.

All arms of all runs that may be compared (`rows.py`) are one family: paired differences on the
same rows, and Holm's correction over every pair, so that many runs do not find a winner by luck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.across import wording
from luthier.across.differences import MODEL, Difference, differences, shared_training, summary
from luthier.across.rows import Group, Plan, plan
from luthier.across.sides import Side, open_sides, taken
from luthier.arms.base import ARMS
from luthier.evaluation.clusters import clusters_of
from luthier.verdict.compare import LEVEL, Comparison, compare
from luthier.verdict.document import each_once, plain
from luthier.verdict.evidence import mapping


@dataclass(frozen=True, eq=False)
class Entrant:
    """An arm of a run: whom a name in a comparison stands for."""

    side: Side
    arm: str

    @property
    def reads_model(self) -> bool:
        """Whether it asks or tunes the task's model; a floor does not, and an arm with an encoder
        of its own does not either."""
        record = mapping(self.side.run.arm_record(self.arm))
        encoder = mapping(record.get("settings")).get("encoder", self.side.task.model)
        floor = self.arm in ARMS and ARMS.get(self.arm).floor
        return not floor and encoder == self.side.task.model

    def to_dict(self) -> dict[str, str]:
        """Names of both."""
        return {"run": self.side.name, "arm": self.arm}


@dataclass(frozen=True, eq=False)
class Compared:
    """One group of runs, compared.

    Attributes:
        group: the runs and rows.
        comparison: of all their arms, by names of the form "lora of RUN".
        entrants: who these names are.
        notes: what a reader should know.
    """

    group: Group
    comparison: Comparison
    entrants: Mapping[str, Entrant]
    notes: tuple[str, ...]

    def best_of(self, side: Side) -> str | None:
        """The best arm of one run: no upper bound, and a floor only if there is nothing else."""
        scored = [
            arm
            for arm in self.comparison.arms
            if arm.score is not None
            and self.entrants[arm.name].side is side
            and not arm.result.ceiling
        ]
        ranked = sorted(scored, key=lambda a: (a.result.floor, -(a.score or 0.0), a.name))
        return ranked[0].name if ranked else None


@dataclass(frozen=True, eq=False)
class Across:
    """Several runs, compared.

    Attributes:
        sides: the runs in the order given.
        plan: what may be compared.
        groups: what came of it, the widest first.
        differing: what differs between the runs.
        headline: the answer, in one sentence.
        reasons: what it rests on, and what cannot be said.
        notes: what a reader should know of the data.
    """

    sides: tuple[Side, ...]
    plan: Plan
    groups: tuple[Compared, ...]
    differing: tuple[Difference, ...]
    headline: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """What `luthier compare --json` prints."""
        names = [side.name for side in self.sides]
        return {
            "headline": self.headline,
            "reasons": list(self.reasons),
            "comparable": not self.plan.alone,
            "runs": [_run(side) for side in self.sides],
            "differences": [
                {"what": one.what, "values": dict(zip(names, one.values, strict=True))}
                for one in self.differing
            ],
            "comparisons": [_comparison(one) for one in self.groups],
            "not_compared": list(self.plan.reasons),
            "notes": list(self.notes),
        }


def compare_runs(folders: Sequence[str | Path]) -> Across:
    """Compare finished runs.

    Args:
        folders: two or more run folders.

    Raises:
        InputError: fewer than two, or a broken file.
        RunError: a folder that is no run, or an unfinished one.
    """
    return compare_sides(open_sides(folders))


def compare_sides(sides: Sequence[Side]) -> Across:
    """Compare runs that are open."""
    planned = plan(sides)
    groups = tuple(_compared(group) for group in planned.groups)
    differing = tuple(differences(sides))
    # the headline is about the widest group, and so is what it says of differences
    meant = groups[0].group.sides if groups else tuple(sides)
    between = differences(meant)
    clause = summary(between, meant if len(meant) < len(sides) else ())
    headline, reasons = wording.answer(
        groups, planned, clause, models=any(one.what == MODEL for one in between)
    )
    notes = [
        *dict.fromkeys(note for one in groups for note in one.notes),
        *dict.fromkeys(said for one in groups for said in shared_training(one.group.sides)),
        *_repeated(sides),
    ]
    return Across(tuple(sides), planned, groups, differing, headline, tuple(reasons), tuple(notes))


def _compared(group: Group) -> Compared:
    labels = tuple(dict.fromkeys(label for side in group.sides for label in side.labels))
    arms, entrants, notes = [], {}, []
    for side, rows in zip(group.sides, group.rows, strict=True):
        results, said = side.scored(labels)
        notes += said
        for result in results:
            name = f"{result.name} of {side.name}"
            entrants[name] = Entrant(side, result.name)
            arms.append(taken(result, rows, name))
    known = {side.labels for side in group.sides}
    if len(known) > 1:
        notes.append(
            f"The runs know different labels; all answers are matched here with all "
            f"{len(labels)} of them."
        )
    if group.reworded:
        notes.append(
            "The tests have the same ids and references, and ask in other words: taken for the "
            "same rows."
        )
    clusters, narrow = clusters_of(group.clusters())
    first = group.sides[0]
    return Compared(
        group,
        compare(arms, first.metric, seed=first.task.seed, clusters=clusters),
        entrants,
        (*notes, *narrow),
    )


def _repeated(sides: Sequence[Side]) -> list[str]:
    seen: dict[Path, str] = {}
    said = []
    for side in sides:
        folder = side.run.folder.resolve()
        if folder in seen:
            said.append(f"{seen[folder]} and {side.name} are the same folder.")
        seen.setdefault(folder, side.name)
    return said


def _run(side: Side) -> dict[str, Any]:
    verdict, manifest = side.evidence.verdict, side.manifest
    return {
        "name": side.name,
        "folder": str(side.run.folder),
        "task": side.task.name,
        "kind": side.task.kind,
        "metric": side.metric.name,
        "model": mapping(manifest.get("model")).get("name") or side.task.model,
        "rows": {name: len(rows) for name, rows in side.evidence.splits.items()},
        "test_hash": mapping(mapping(manifest.get("splits")).get("test")).get("hash"),
        "seed": side.task.seed,
        "decision": verdict.get("decision"),
        "recommendation": verdict.get("recommendation"),
        "headline": verdict.get("headline"),
    }


def _comparison(one: Compared) -> dict[str, Any]:
    held, group = one.comparison, one.group
    best = held.best
    return {
        "runs": [side.name for side in group.sides],
        "rows": group.n,
        "rows_of": {side.name: len(side.test) for side in group.sides},
        "whole_test": group.whole,
        "metric": held.metric.name,
        "statistics": {
            "level": LEVEL,
            "method": held.method,
            "independent_units": held.units,
            "signature": held.metric.signature(),
        },
        "best": one.entrants[best].to_dict() if best else None,
        "arms": [
            {
                **one.entrants[arm.name].to_dict(),
                "score": arm.score,
                "interval": plain(arm.interval),
                "failed": arm.result.failed,
                "floor": arm.result.floor,
                "ceiling": arm.result.ceiling,
            }
            for arm in held.arms
        ],
        "pairs": [
            {
                "arms": [one.entrants[name].to_dict() for name in (pair.first, pair.second)],
                "difference": plain(pair.difference),
                "interval": plain(pair.interval),
                "p": plain(pair.p),
                "p_adjusted": plain(held.adjusted[pair.first, pair.second]),
            }
            for pair in each_once(held)
        ],
    }
