"""What a comparison of runs says, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from luthier.evaluation import statistics
from luthier.verdict import wording
from luthier.verdict.compare import Pair
from luthier.verdict.formatting import p_value
from luthier.verdict.standing import POWER, rows_for

if TYPE_CHECKING:
    from luthier.across.comparing import Compared
    from luthier.across.rows import Plan

#: Below this adjusted p a difference is called one.
SIGNIFICANT = 0.05


def answer(
    groups: Sequence[Compared], planned: Plan, differing: str, *, models: bool = False
) -> tuple[str, list[str]]:
    """(the headline, the reasons below it).

    Args:
        groups: the comparisons, the widest first, which the headline is about.
        planned: what could not be compared, and why.
        differing: what differs between the runs, a clause.
        models: whether it says that the models differ.
    """
    if not groups:
        return f"These runs cannot be compared; {differing}.", list(planned.reasons)
    first = groups[0]
    bests = _bests(first)
    if len(bests) < 2:
        return f"There is nothing to compare: too few arms have a score; {differing}.", [
            *planned.reasons
        ]
    top, rivals = bests[0], bests[1:]
    unused = ""
    if models and not any(first.entrants[name].reads_model for name in (top, rivals[0])):
        unused = ", and neither of the two arms uses the model"
    said = f"{_on_the_rows(first)}{_against(first, top, rivals)}; {differing}{unused}."
    named = said.startswith(top)  # a name stays as it is
    headline = said if named else said[0].upper() + said[1:]
    reasons = [_pair(first, top, rival) for rival in rivals]
    reasons += _power(first, top, rivals[0])
    for other in groups[1:]:
        found = _bests(other)
        if len(found) > 1:
            names = wording.listed([side.name for side in other.group.sides])
            reasons.append(f"{names}, {_rows_of(other)}: {_against(other, found[0], found[1:])}.")
    return headline, [*reasons, *planned.reasons]


def _bests(one: Compared) -> list[str]:
    """The best arm of each run, the best of them first."""
    found = [name for side in one.group.sides if (name := one.best_of(side))]
    return sorted(found, key=lambda name: -(one.comparison.arm(name).score or 0.0))


def _on_the_rows(one: Compared) -> str:
    if one.group.whole:
        return ""
    return f"{_rows_of(one)}: "


def _rows_of(one: Compared) -> str:
    """Which rows are compared: "on the 150 rows that both tests have (of 200 and 300)"."""
    if one.group.whole:
        return f"on the same {one.group.n:,} test rows"
    tests = "both tests" if len(one.group.sides) == 2 else "all tests"
    sizes = wording.listed([f"{len(side.test):,}" for side in one.group.sides])
    return f"on the {one.group.n:,} rows that {tests} have (of {sizes})"


def _against(one: Compared, top: str, rivals: Sequence[str]) -> str:
    """The best arm against the best of the run that comes closest."""
    held = one.comparison
    rival = rivals[0]
    pair = held.pairs[top, rival]
    named = "the best of the other run" if len(rivals) == 1 else "the best of the other runs"
    title = held.metric.title
    score, against = (wording.percent(held.arm(name).score or 0.0) for name in (top, rival))
    if held.adjusted[top, rival] < SIGNIFICANT and pair.difference > 0:
        low, high = (100 * end for end in pair.interval)
        return (
            f"{top} beats {rival}, {named}, by {100 * pair.difference:.1f} points of {title} "
            f"({low:.1f} to {high:.1f})"
        )
    if pair.difference == 0:
        return f"{top} and {rival}, {named}, score the same ({score} {title})"
    return (
        f"no difference is shown between {top} ({score} {title}) and {rival} ({against}), {named}"
    )


def _pair(one: Compared, top: str, rival: str) -> str:
    held = one.comparison
    pair = held.pairs[top, rival]
    return (
        f"{top} against {rival}: {wording.signed(pair.difference)} points of {held.metric.title} "
        f"(95 % interval {wording.interval_of_difference(pair.interval)}, p = {p_value(pair.p)}, "
        f"with Holm's correction over all {len(held.pairs) // 2:,} pairs "
        f"{p_value(held.adjusted[top, rival])})."
    ).replace("= <", "<")


def _power(one: Compared, top: str, rival: str) -> list[str]:
    """What this test can tell, and what it would take, where no difference is shown."""
    held = one.comparison
    pair = held.pairs[top, rival]
    if held.adjusted[top, rival] < SIGNIFICANT:
        return []
    effect = _detectable(held.n, pair)
    said = [f"This test can tell apart arms that differ by about {wording.points(effect)}."]
    if pair.difference:
        rows = rows_for(held, pair.difference - pair.interval[0], abs(pair.difference))
        said.append(
            f"If they differ as they did here, {wording.more_rows(wording.round_rows(rows))} "
            "would show it."
        )
    return said


def _detectable(n: int, pair: Pair) -> float:
    if pair.discordance is not None:
        return statistics.minimum_detectable_effect(n, pair.discordance, POWER)
    return min(1.0, statistics.detectable_from_deviation(pair.error, POWER))
