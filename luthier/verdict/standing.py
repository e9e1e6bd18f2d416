"""Where each arm stands before the decision: constraints, the floor, `at_least`, and the others.

The rule itself is told in `luthier.verdict.decide`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luthier.evaluation import statistics
from luthier.task_sections import Success
from luthier.verdict import wording
from luthier.verdict.compare import LEVEL, Compared, Comparison, Pair

#: Training is paid for once; it is shared out among this many answers.
ANSWERS = 10_000
#: Of a test, in all, where it is said how many more rows would decide.
_FEWEST_ROWS = 30
#: Chance that the rows asked for will tell, and that a detectable effect shows.
POWER = 0.8

Known = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class Standing:
    """Where an eligible arm stands.

    Attributes:
        blockers: the differences to arms that it is not shown to be as good as.
        beats_floor, reaches: whether it beats the floor, whether it reaches `at_least`.
        doubts: (reason, rows needed) for what is not known of it.
        outs: why it is out.
    """

    arm: Compared
    score: float
    interval: tuple[float, float]
    cost: float
    blockers: tuple[Pair, ...]
    beats_floor: Known
    reaches: Known
    doubts: tuple[tuple[str, float], ...]
    outs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    @property
    def out(self) -> bool:
        """Whether it is shown not to be good enough."""
        return "no" in (self.beats_floor, self.reaches)

    @property
    def deployable(self) -> bool:
        """Whether it is acceptable, beats the floor and reaches `at_least`."""
        return not self.blockers and self.beats_floor == self.reaches == "yes"


def cost_of(arm: Compared) -> float:
    """Seconds an answer, training included; infinite when seconds an answer are not known."""
    per_answer = arm.result.costs.get("seconds_per_answer")
    training = arm.result.costs.get("train_seconds") or 0.0
    return math.inf if per_answer is None else per_answer + training / ANSWERS


def constraints(arm: Compared, success: Success) -> tuple[list[str], list[str]]:
    """(violated, remarks): why an arm may not be deployed, and what else is to be said."""
    violated, remarks = [], []
    limit = success.max_seconds_per_answer
    if limit is not None:
        took = arm.result.costs.get("seconds_per_answer")
        if took is None:
            remarks.append(f"Whether {arm.name} answers fast enough was not measured.")
        elif took > limit:
            violated.append(
                f"{arm.name} is too slow: {wording.seconds(took)} an answer, "
                f"{wording.seconds(limit)} is allowed."
            )
    limit = success.max_forgetting
    if limit is not None and (arm.result.can_forget or arm.result.forgetting):
        forgetting = arm.result.forgetting or {}
        drop = forgetting.get("drop")
        if drop is None or not math.isfinite(drop):
            remarks.append(f"What {arm.name} forgot was not measured.")
            return violated, remarks
        low, high = forgetting.get("interval") or (drop, drop)
        said = (
            f"{wording.points(drop)} of general ability "
            f"(95 % interval {wording.interval_of_difference((low, high))}), "
            f"{wording.points(limit)} are allowed."
        )
        if low > limit:
            violated.append(f"{arm.name} forgets too much: {said}")
        elif drop > limit:
            remarks.append(f"{arm.name} may forget too much, which is not certain: {said}")
        elif high > limit:
            remarks.append(f"{arm.name} is not shown to keep what it knew: {said}")
    return violated, remarks


def stand(
    comparison: Comparison,
    arm: Compared,
    eligible: Sequence[Compared],
    floors: Sequence[Compared],
    success: Success,
) -> Standing:
    """Hold one eligible arm against the floors, `at_least` and the other eligible arms."""
    assert arm.score is not None and arm.interval is not None
    outs: list[str] = []
    doubts: list[tuple[str, float]] = []
    title = comparison.metric.title
    beats: Known = "yes"
    for floor in floors:
        pair = comparison.pairs[arm.name, floor.name]
        (low, high), lead = pair.joint_interval, pair.difference
        if low > 0:
            continue
        said = f"{wording.interval_of_difference(pair.interval)} points"
        if high <= success.margin:
            beats = "no"
            outs.append(
                f"{arm.name} is no useful improvement on {floor.name} "
                f"({said}, 95 % interval of the difference)"
            )
        elif beats != "no":
            beats = "unknown"
            half, gap = (lead - low, lead) if lead > 0 else (high - lead, success.margin - lead)
            rows = rows_for(comparison, half, gap, comparison.floor_level)
            doubts.append((f"whether {arm.name} beats {floor.name}", rows))
    reaches: Known = "yes"
    if success.at_least is not None and arm.score < success.at_least:
        wanted, high = success.at_least, arm.interval[1]
        if high < wanted:
            reaches = "no"
            outs.append(
                f"{arm.name} reaches {wording.percent(arm.score)} {title} (95 % interval "
                f"{wording.interval_of_score(arm.interval)}), shown to fall short of the "
                f"{wording.percent(wanted)} asked for"
            )
        else:
            reaches = "unknown"
            rows = rows_for(comparison, high - arm.score, wanted - arm.score)
            doubts.append((f"whether {arm.name} reaches {wording.percent(wanted)}", rows))
    pairs = [comparison.pairs[arm.name, other.name] for other in eligible if other is not arm]
    return Standing(
        arm=arm,
        score=arm.score,
        interval=arm.interval,
        cost=cost_of(arm),
        blockers=tuple(p for p in pairs if not p.joint_interval[0] > -success.margin),
        beats_floor=beats,
        reaches=reaches,
        doubts=tuple(doubts),
        outs=tuple(outs),
    )


def rows_for(comparison: Comparison, half: float, gap: float, level: float = LEVEL) -> float:
    """More rows at which an interval with this half width now leaves `gap` behind, power 80 %.

    Half widths go with 1 / sqrt(rows), which nothing can be foretold by from a handful of rows: at
    least so many are asked for that the test has thirty. The half width must shrink to
    gap z / (z + z_power), so that the sampling error of the estimate itself is allowed for.
    """
    if gap <= 0:
        return math.inf
    z = statistics.quantile_of_normal(0.5 + level / 2)
    factor = half / gap * (1 + statistics.quantile_of_normal(POWER) / z)
    return max(1.0, comparison.n * (factor * factor - 1), _FEWEST_ROWS - comparison.n)


def rows_to_tell(comparison: Comparison, pair: Pair, margin: float) -> float:
    """More rows that would show whether `pair.first` is worse than `pair.second` by the margin."""
    low, high = pair.joint_interval
    gap = pair.difference + margin
    half = pair.difference - low if gap > 0 else high - pair.difference
    return rows_for(comparison, half, abs(gap), comparison.joint_level)
