"""The learning curve of a run: pilot fits of one arm on parts of the training rows.

The pilots answer the locked test as the arm did, with nothing chosen by what they score: they say
how the arm's score has grown with the data, and `evaluation/learning_curve.py` how it will go on.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.arms.base import ARMS, Arm, Workplace
from luthier.data.examples import Example
from luthier.evaluation.learning_curve import LEVEL, SURE, LearningCurve, learning_curve
from luthier.evaluation.scoring import Scored
from luthier.exam import Exam
from luthier.progress import Reporter
from luthier.refits import refit
from luthier.results import REFITS, SEED, finished
from luthier.verdict.formatting import percent, plain
from luthier.verdict.wording import listed

if TYPE_CHECKING:
    from luthier.runs import Run
    from luthier.task_sections import Success

#: Why there is no learning curve of any arm, where the task wants none.
NOT_WANTED = "`learning_curve` is false"
#: Shares of the training rows that pilots are fitted on, and the most fits of each.
SHARES = ((0.1, 4), (0.25, 3), (0.5, 2))
#: With fewer training rows than these a tenth of them is no data set.
FEWEST = 60
#: Seconds that pilots may take even where the arm itself took fewer.
_FREE = 60.0
#: Nothing is said of more than this many times the rows there are.
_FURTHEST = 20.0
_LEVEL = percent(LEVEL, 0)


@dataclass(frozen=True)
class Pilot:
    """One fit on a part of the rows: how many, which draw, and what it will take."""

    examples: int
    number: int
    seconds: float

    def folder(self, arm: str) -> str:
        """Its name below OUT/refits."""
        return f"{arm}.{self.examples}-{self.number}"


def sizes_of(rows: int) -> dict[int, int]:
    """Numbers of training examples that pilots are fitted on, and the most fits of each."""
    return {max(2, round(share * rows)): most for share, most in SHARES}


def plan(
    rows: int,
    fit_seconds: float,
    answer_seconds: float,
    seconds: float,
    done: Collection[tuple[int, int]] = (),
) -> list[Pilot]:
    """The pilots there is time for, cheapest sizes first.

    One of every share first, as a curve needs sizes; then more of the small ones, whose scores
    scatter most. Without room for two sizes there are none.

    Args:
        rows: training examples there are.
        fit_seconds: that fitting on all of them took.
        answer_seconds: that answering the test took.
        seconds: to spend.
        done: (examples, number) of the pilots of an interrupted run, which take no time any more.
    """
    sizes = sizes_of(rows)
    chosen: list[Pilot] = []
    for number in range(max(sizes.values())):
        for size, most in sizes.items():
            cost = 0.0 if (size, number) in done else fit_seconds * size / rows + answer_seconds
            if number < most and cost <= seconds:
                chosen.append(Pilot(size, number, cost))
                seconds -= cost
        if number == 0 and len(chosen) < 2:
            return []
    return chosen


def part_of(rows: Sequence[Example], size: int, seed: str) -> list[Example]:
    """A seeded draw of `size` rows; rows of a group come together, as they would be labelled.

    Where the last group is larger than what is still wanted, part of it is taken.
    """
    groups: dict[str, list[Example]] = {}
    for example in rows:
        groups.setdefault(example.group or example.id, []).append(example)
    order = sorted(groups)
    random.Random(f"pilot-{seed}").shuffle(order)
    drawn = [example for name in order for example in groups[name]]
    return drawn[:size]


def pilot_fits(run: Run, arm: Arm, place: Workplace, exam: Exam, seconds: float) -> str | None:
    """Fit the pilots that `seconds` allow, those done before excepted.

    Args:
        run: that the arm was fitted in.
        arm: that learns.
        place: of it, with all training rows.
        exam: what every arm is asked.
        seconds: to spend.

    Returns:
        Why there are fewer than two sizes of them, or None.
    """
    record = run.arm_record(arm.name) or {}
    costs = record.get("costs") or {}
    fit = float(costs.get("train_seconds") or 0.0)
    answering = float(costs.get("seconds_per_answer") or 0.0) * len(exam.test)
    rows, home = len(place.train), run.folder / REFITS
    done = {
        (pilot.examples, pilot.number)
        for pilot in plan(rows, 0.0, 0.0, 0.0)
        if (home / pilot.folder(arm.name) / "arm.json").is_file()
    }
    pilots = plan(rows, fit, answering, seconds, done)
    if not pilots:
        needed = sum(fit * share + answering for share, _ in SHARES[:2])
        left = f"{seconds / 60:.1f} are" if seconds >= 3 else "none is"
        return f"it needs about {needed / 60:.1f} minutes and {left} left"
    seed = place.task.seed
    quiet = dataclasses.replace(place, reporter=Reporter())
    total = sum(pilot.seconds for pilot in pilots)
    failures: list[str] = []
    fitted: set[int] = set()
    # what was foreseen of the fits so far, and what they took: the rest is foreseen by both
    foreseen = took = 0.0
    skipped = 0
    with place.reporter.work(f"{arm.name}: {len(pilots)} pilot fits", total) as bar:
        for pilot in pilots:
            needed = pilot.seconds * (took / foreseen if foreseen else 1.0)
            if pilot.seconds and took + needed > seconds:
                bar.advance(pilot.seconds)
                skipped += 1
                continue
            began = time.monotonic()
            failed = refit(
                arm,
                quiet,
                exam,
                folder=home / pilot.folder(arm.name),
                seed=seed + pilot.number,
                record=record,
                train=part_of(place.train, pilot.examples, f"{seed}-{pilot.folder('')}"),
            )
            bar.advance(pilot.seconds)
            if pilot.seconds:
                foreseen, took = foreseen + pilot.seconds, took + time.monotonic() - began
            if failed:
                failures.append(failed)
            else:
                fitted.add(pilot.examples)
    if skipped:
        place.reporter.say(
            f"{arm.name}: {len(pilots) - skipped} of {len(pilots)} pilot fits; there was no time "
            "for the rest."
        )
    if len(fitted) >= 2:
        return None
    if failures:
        return f"{len(failures)} of its {len(pilots)} pilot fits failed ({failures[0]})"
    return (
        f"its pilot fits take longer than foreseen ({took / 60:.1f} minutes for "
        f"{len(fitted)} of {len(pilots)}, of {seconds / 60:.1f})"
    )


def curve_of(run: Run, name: str, exam: Exam, success: Success) -> dict[str, Any] | None:
    """`learning_curve` of verdict.json, from what the pilots left in the folder.

    None with fewer than two sizes of pilots. Keys: arm, examples (that it was trained on), level
    (of all intervals), points (the scores of every fit), predictions (for twice and four times the
    examples), band (to draw), gain (of twice the examples: `difference`, `interval`, and the
    `probability` that it is `worth` it), needed (examples for the score that the task asks for),
    answer ("likely", "unlikely", "unclear", "irregular": no learning curve), said (in words).
    """
    size, seed = run.manifest["splits"]["train"]["rows"], run.task.seed
    pilots = {
        n: [exam.marked(folder) for folder in folders]
        for n in sizes_of(size)
        if (folders := finished(run, name, str(n)))
    }
    if len(pilots) < 2:
        return None
    whole = [exam.marked(at) for at in (run.arm_folder(name), *finished(run, name, SEED))]
    fits = {**pilots, size: whole}
    scores = {n: [one.value for one in found] for n, found in fits.items()}
    curve = learning_curve(scores, seed=seed)
    error = _row_error(exam, pilots[max(pilots)], whole, seed)
    return {
        "arm": name,
        "examples": size,
        "level": LEVEL,
        "points": [{"examples": n, "scores": found} for n, found in scores.items()],
        **_told(curve, size, error, success, seed),
    }


def _row_error(exam: Exam, half: Sequence[Scored], whole: Sequence[Scored], seed: int) -> float:
    """Standard error that the drawing of the test's rows gives to the gain from the largest pilots
    to all rows; that of the next gain is taken to be as large."""
    from luthier.evaluation.clusters import clusters_of
    from luthier.evaluation.statistics import paired_bootstrap

    tables = [np.mean([one.statistics for one in some], axis=0) for some in (half, whole)]
    clusters, _ = clusters_of(exam.test)
    drawn = paired_bootstrap(
        tables, exam.metric.value, resamples=1_000, seed=seed, clusters=clusters
    )
    return drawn.difference_deviation(0, 1)


def _told(
    curve: LearningCurve, size: int, error: float, success: Success, seed: int
) -> dict[str, Any]:
    if not curve.regular:
        return {
            "predictions": [],
            "band": [],
            "gain": None,
            "needed": None,
            "answer": "irregular",
            "said": "The scores of the pilot fits do not lie on a learning curve: nothing can be "
            "said of more data.",
        }
    drawn = np.geomspace(curve.sizes[0], 4 * size, 25).round().astype(int)
    gain = _gain(curve, size, error, success, seed)
    needed = None
    if success.at_least is not None and float(np.median(curve.expected(size))) < success.at_least:
        needed = _needed(curve, success.at_least, size)
    likely = gain["probability"]
    answer = "likely" if likely >= SURE else "unlikely" if likely <= 1 - SURE else "unclear"
    return {
        "predictions": [curve.band(n * size, seed=seed).to_dict() for n in (2, 4)],
        "band": [curve.band(int(n), seed=seed).to_dict() for n in drawn],
        "gain": gain,
        "needed": needed,
        "answer": answer,
        "said": " ".join(filter(None, [_said(answer, gain), _said_needed(needed)])),
    }


def _gain(
    curve: LearningCurve, size: int, error: float, success: Success, seed: int
) -> dict[str, Any]:
    """What twice the examples bring. Less than half a point is not called a gain."""
    gains = curve.gains(2 * size, row_error=error, seed=seed)
    low, middle, high = np.quantile(gains, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    worth = max(success.margin, 0.005)
    return {
        "examples": 2 * size,
        "difference": float(middle),
        "interval": [float(low), float(high)],
        "worth": worth,
        "probability": float((gains >= worth).mean()),
    }


def _needed(curve: LearningCurve, wanted: float, size: int) -> dict[str, Any]:
    furthest = _FURTHEST * size
    middle, low, high = (
        round(end) if np.isfinite(end) else None for end in curve.needed(wanted, most=furthest)
    )
    return {
        "score": wanted,
        "examples": middle,
        "interval": [low, high],
        "furthest": round(furthest),
    }


def _said(answer: str, gain: dict[str, Any]) -> str:
    start = {
        "likely": "More data is likely to help",
        "unlikely": "More data of the same kind is not likely to help",
        "unclear": "It is unclear whether more data would help",
    }[answer]
    low, high = (plain(100 * end, signed=True) for end in gain["interval"])
    return (
        f"{start}: with twice the examples ({gain['examples']:,}) the score on new questions would "
        f"change by about {plain(100 * gain['difference'], signed=True)} points "
        f"({_LEVEL} interval {low} to {high}); a gain of {plain(100 * gain['worth'])} points or "
        f"more has a probability of "
        f"{round(100 * gain['probability'])} %."
    )


def _said_needed(needed: dict[str, Any] | None) -> str:
    if needed is None:
        return ""
    goal = percent(needed["score"])
    middle, (low, high) = needed["examples"], needed["interval"]
    if low is None:
        return f"{goal} is out of reach with {needed['furthest']:,} examples of this kind."
    if middle is None:
        return (
            f"{goal} would take {low:,} examples at the least, and is more likely out of reach "
            f"with {needed['furthest']:,}."
        )
    above = f"to {high:,}" if high else f"to more than {needed['furthest']:,}"
    return f"{goal} would take about {middle:,} examples ({_LEVEL} interval {low:,} {above})."


def chosen_arm(scores: dict[str, float], recommended: str | None) -> str | None:
    """The arm whose curve is worth drawing: the recommended one where it learns from more rows,
    else the best of those that do; None where none does."""
    learning = {name: value for name, value in scores.items() if ARMS.get(name).learns}
    if recommended in learning:
        return recommended
    return min(learning, key=lambda name: (-learning[name], name), default=None)


def missing_curves(
    scores: Iterable[str], chosen: str | None, why: str | None
) -> list[dict[str, Any]]:
    """`no_learning_curve` of verdict.json: the arms that have no learning curve, and why.

    Of a run with a curve these are the arms that learn from the rows and can have none; of a run
    without one, all arms that could be deployed.

    Args:
        scores: names of the arms that finished.
        chosen: the arm whose curve is of interest, by `chosen_arm`.
        why: it has none; None where there is a curve.

    Returns:
        {"arms", "why", "said"} of arms that have it for the same reason.
    """
    reasons: dict[str, list[str]] = {}
    for name in sorted(scores):
        arm = ARMS.get(name)
        if arm.floor or arm.ceiling:
            continue
        reason = arm.no_curve
        if reason is None and (why or chosen is None):
            if name == chosen or (arm.learns and why == NOT_WANTED):
                reason = why
            elif arm.learns:
                reason = f"pilot fits are made of one arm, which is {chosen} here"
            else:
                reason = "nothing is trained on the rows"
        if reason:
            reasons.setdefault(reason, []).append(name)
    return [
        {"arms": arms, "why": reason, "said": f"No learning curve of {listed(arms)}: {reason}."}
        for reason, arms in sorted(reasons.items(), key=lambda one: chosen not in one[1])
    ]


def time_allowed(record: dict[str, Any], left: float) -> float:
    """Seconds that pilots may take: what the arm itself took, or a minute, of what is left."""
    return min(left, max(_FREE, float(record.get("seconds") or 0.0)))
