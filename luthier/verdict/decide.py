"""The decision: which arm to deploy, or that the test cannot say, or that none is good enough.

The rule is a non-inferiority test (Committee for Proprietary Medicinal Products 2001, Br. J. Clin.
Pharmacol. 52:223; Piaggio et al. 2012, JAMA 308:2594) of each arm against every other, so that
picking the winner of a sample cannot smuggle in an arm that is worse by more than the margin
(multiple comparisons with the best: Hsu 1984, Ann. Statist. 12:1136).

1. *Eligible* are arms that did not fail, are no floor and no ceiling, and meet the constraints.
   Too slow is out. Forgetting is out when the lower end of its interval exceeds `max_forgetting`;
   when only the estimate does, a reason says so. What was not measured is named in a reason.
2. An arm must beat every floor: the interval of its lead must lie above 0, at 95 % for one arm and
   wider for more (`luthier.verdict.compare.floor_level`). It is out when the interval leaves out an
   improvement of more than the margin; in between, it is not known.
3. An arm whose interval ends below `at_least` is out. One whose score is below it while the
   interval reaches it is not known to fall short.
4. An eligible arm a is *acceptable* when for every other eligible arm b the lower end of the
   interval of a - b lies above -margin. The intervals are at 95 % for up to three arms and wider
   for more (`luthier.verdict.compare.joint_level`), so that the chance to accept any arm that is
   truly worse than the best eligible one by more than the margin stays below 5 %.
5. Deployed is the cheapest acceptable arm that passes 2 and 3 (its score reaches `at_least`).
   Cost: seconds an answer + seconds of training / 10,000 answers; ties by name.
6. Otherwise, all eligible arms out: "none". Else "undecided", with the leading arm to use
   meanwhile and how many more rows would tell. That number gives a chance of 80 % if the arms
   differ as they did here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luthier.evaluation import statistics
from luthier.task_sections import Success
from luthier.verdict import wording
from luthier.verdict.compare import LEVEL, Compared, Comparison
from luthier.verdict.standing import ANSWERS, POWER, Standing, constraints, rows_to_tell, stand

#: Below this many clusters, cluster-robust intervals are known to be too narrow (Cameron, Gelbach &
#: Miller 2008, Rev. Econ. Stat. 90:414).
FEW_GROUPS = 30


@dataclass(frozen=True)
class Decision:
    """What the comparison says.

    Attributes:
        decision: deploy `recommendation`; undecided (use it meanwhile); or none.
        recommendation: name of an arm; None for "none".
        headline: one plain sentence.
        reasons: the sentences behind it, the most important first.
        minimum_detectable_effect: the least difference between the recommended (else the leading)
            arm and its closest rival that this test would show four times in five; None when
            there is no rival.
        more_rows: how many more rows would tell, rounded up; only when undecided.
    """

    decision: Literal["deploy", "undecided", "none"]
    recommendation: str | None
    headline: str
    reasons: tuple[str, ...]
    minimum_detectable_effect: float | None
    more_rows: int | None


def decide(comparison: Comparison, success: Success) -> Decision:
    """Apply the rule of this module. Pure: no files, no clock, no randomness."""
    notes = [f"{arm.name} failed: {arm.result.failed}" for arm in comparison.arms if _dead(arm)]
    candidates = [
        a for a in comparison.arms if not (_dead(a) or a.result.floor or a.result.ceiling)
    ]
    floors = [a for a in comparison.arms if not _dead(a) and a.result.floor]
    notes += [
        f"Whether the arms beat {arm.name} is not known: it failed."
        for arm in comparison.arms
        if _dead(arm) and arm.result.floor
    ]
    if not candidates:
        held = [arm.name for arm in comparison.arms if not _dead(arm)]
        why = "no arm finished"
        if held and not any(_dead(arm) for arm in comparison.arms):
            why = f"{wording.listed(held)} can only be compared with, and no other arm was run"
        return _none(why, notes, None)
    eligible = []
    for arm in candidates:
        violated, remarks = constraints(arm, success)
        notes += violated + remarks
        if not violated:
            eligible.append(arm)
    if not eligible:
        rival = _effect(comparison, candidates, floors, None)
        return _none("no arm meets the constraints", notes, rival)

    notes += _about_the_statistics(comparison, len(eligible))
    standings = sorted(
        (stand(comparison, arm, eligible, floors, success) for arm in eligible),
        key=lambda standing: (-standing.score, standing.cost, standing.name),
    )
    deployable = [standing for standing in standings if standing.deployable]
    if deployable:
        chosen = min(deployable, key=lambda standing: (standing.cost, standing.name))
        return _deploy(comparison, chosen, standings, floors, success, notes)
    effect = _effect(comparison, eligible, floors, standings[0].name)
    if all(standing.out for standing in standings):
        outs = [out for standing in standings for out in standing.outs]
        return _none(standings[0].outs[0], [*_sentences(outs), *notes], effect)
    return _undecided(comparison, standings, floors, success, notes, effect)


def _dead(arm: Compared) -> bool:
    return arm.score is None or arm.result.failed is not None


def _about_the_statistics(comparison: Comparison, eligible: int) -> list[str]:
    said = []
    if comparison.joint_level > LEVEL and eligible > 1:
        said.append(
            f"Because so many arms are compared, each must pass at "
            f"{100 * comparison.joint_level:.1f} % intervals, which are wider than the 95 % ones "
            "shown."
        )
    if comparison.units < comparison.n:
        few = " That is few: take the intervals as rough." if comparison.units < FEW_GROUPS else ""
        said.append(
            f"The {comparison.n} test rows belong to {comparison.units} groups; the intervals "
            f"allow for rows of a group being alike.{few}"
        )
    return said


def _deploy(
    comparison: Comparison,
    chosen: Standing,
    standings: list[Standing],
    floors: list[Compared],
    success: Success,
    notes: list[str],
) -> Decision:
    title, name = comparison.metric.title, chosen.name
    margin = wording.points(success.margin)
    others = [standing for standing in standings if standing is not chosen]
    costs = chosen.arm.result.costs
    price = wording.cost(costs.get("seconds_per_answer"), costs.get("train_seconds"))
    headline = f"Deploy {name}: {wording.percent(chosen.score)} {title}"
    reasons = []
    if others:
        rival = others[0]
        pair = comparison.pairs[name, rival.name]
        against = wording.percent(rival.score)
        if rival.score <= chosen.score:
            headline += f" against {against} for {rival.name} (the runner-up)"
        elif chosen.cost < rival.cost:
            headline += f", at most {margin} worse than {rival.name} ({against}), which costs more"
        else:
            headline += f", at most {margin} worse than {rival.name} ({against})"
        reasons.append(
            f"{name} against {rival.name}: {wording.signed(pair.difference)} points of {title} "
            f"(95 % interval {wording.interval_of_difference(pair.interval)}, "
            f"{'p < 0.0001' if pair.p < 1e-4 else f'p = {pair.p:.2g}'})."
        )
        reasons.append(
            f"Against each of {wording.listed([o.name for o in others])} it is shown not to be "
            f"worse by more than {margin}."
            if len(others) > 1
            else f"It is shown not to be worse than {rival.name} by more than {margin}."
        )
    elif floors:
        score = floors[0].score
        assert score is not None
        headline += f" against {wording.percent(score)} for {floors[0].name}"
    headline += f". It costs {price}." if price else "."
    if not others:
        reasons.append("No other arm can be deployed, so it was compared with the floor only.")
    acceptable = [o.name for o in others if o.deployable]
    if acceptable:
        verb = "is" if len(acceptable) == 1 else "are"
        reasons.append(
            f"{wording.listed(acceptable)} {verb} acceptable, too; {name} is the cheapest "
            f"(seconds an answer, with training shared out among {ANSWERS:,} answers)."
        )
    if math.isinf(chosen.cost):
        reasons.append(f"What {name} costs was not measured; it counts as the dearest.")
    for other in others:
        if other.cost < chosen.cost and not other.out and other.blockers:
            worst = min(other.blockers, key=lambda pair: pair.joint_interval[0])
            if worst.joint_interval[1] < -success.margin:
                continue
            rows = wording.round_rows(rows_to_tell(comparison, worst, success.margin))
            reasons.append(
                f"{other.name} is cheaper ({_price(other)}) and not shown to be worse than "
                f"{worst.second} by more than {margin}, nor shown not to be "
                f"({wording.interval_of_difference(worst.interval)}): "
                f"{wording.more_rows(rows)} would tell."
            )
        elif other.cost < chosen.cost and not other.out and other.doubts:
            doubt, needed = other.doubts[0]
            rows = wording.round_rows(needed)
            reasons.append(
                f"{other.name} is cheaper ({_price(other)}), but it is not known {doubt}: "
                f"{wording.more_rows(rows)} would tell."
            )
    outs = [out for other in others for out in other.outs]
    return Decision(
        decision="deploy",
        recommendation=name,
        headline=headline,
        reasons=(*reasons, *_sentences(outs), *notes),
        minimum_detectable_effect=_effect(
            comparison, [standing.arm for standing in standings], floors, name
        ),
        more_rows=None,
    )


def _undecided(
    comparison: Comparison,
    standings: list[Standing],
    floors: list[Compared],
    success: Success,
    notes: list[str],
    effect: float | None,
) -> Decision:
    leader = next(standing for standing in standings if not standing.out)
    title = comparison.metric.title
    # an arm that is ruled out is no question: what is shown to be of use is as good as that
    out = {standing.name for standing in standings if standing.out}
    blockers = [pair for pair in leader.blockers if pair.second not in out]
    if not blockers and not leader.doubts:
        blockers = list(leader.blockers)
    open_questions = [
        (f"between {pair.first} and {pair.second}", rows_to_tell(comparison, pair, success.margin))
        for pair in sorted(blockers, key=lambda pair: pair.joint_interval[0])
    ]
    open_questions += leader.doubts
    question = open_questions[0][0]
    needed = [wording.round_rows(rows) for _, rows in open_questions]
    reasons = [
        f"Undecided {question}: label {wording.more_rows(rows)}"
        for (question, _), rows in zip(open_questions, needed, strict=True)
    ][1:]  # the first is the headline, unless another needs more rows
    if needed[0] != max(needed):
        reasons.insert(0, f"Undecided {question}: label {wording.more_rows(needed[0])}")
    for pair in blockers:
        reasons.append(
            f"{pair.first} against {pair.second}: {wording.signed(pair.difference)} points of "
            f"{title} (95 % interval {wording.interval_of_difference(pair.interval)}); the lower "
            f"end would have to lie above {wording.signed(-success.margin)}"
        )
    reasons.append(_meanwhile(leader, standings, floors, title))
    outs = [out for standing in standings for out in standing.outs]
    return Decision(
        decision="undecided",
        recommendation=leader.name,
        headline=f"Undecided {question}: label {wording.more_rows(max(needed))}.",
        reasons=(*_sentences(reasons), *_sentences(outs), *notes),
        minimum_detectable_effect=effect,
        more_rows=max(needed),
    )


def _meanwhile(
    leader: Standing, standings: Sequence[Standing], floors: list[Compared], title: str
) -> str:
    """What to use until it is decided; that is no advice where doing nothing scores as well."""
    held = (
        f"{wording.percent(leader.score)} {title} (95 % interval "
        f"{wording.interval_of_score(leader.interval)})"
    )
    as_good = [floor for floor in floors if (floor.score or 0.0) >= leader.score]
    if as_good:
        best = max(as_good, key=lambda floor: floor.score or 0.0)
        return (
            f"{leader.name} is the arm that may still turn out to be of use, at {held}; "
            f"{best.name} has {wording.percent(best.score or 0.0)} on the same rows, so nothing is "
            "lost by using none meanwhile"
        )
    if standings[0] is not leader:
        return (
            f"Use {leader.name} meanwhile: of the arms that are not ruled out it has the highest "
            f"score, {held}"
        )
    level = [one for one in standings[1:] if one.score == leader.score and not one.out]
    if level:
        cheaper = all(leader.cost < one.cost for one in level)
        return (
            f"Use {leader.name} meanwhile: it scores as {wording.listed([o.name for o in level])} "
            f"{'does' if len(level) == 1 else 'do'}{' and costs less' if cheaper else ''}, {held}"
        )
    return f"Use {leader.name} meanwhile: it leads with {held}"


def _none(why: str, reasons: list[str], effect: float | None) -> Decision:
    return Decision(
        decision="none",
        recommendation=None,
        headline=f"None of the arms is good enough: {why}.",
        reasons=tuple(reasons) or (f"{why[0].upper()}{why[1:]}.",),
        minimum_detectable_effect=effect,
        more_rows=None,
    )


def _price(standing: Standing) -> str:
    costs = standing.arm.result.costs
    return wording.cost(costs.get("seconds_per_answer"), costs.get("train_seconds"))


def _sentences(texts: list[str]) -> list[str]:
    return [f"{text.rstrip('.')}." for text in texts]


def _effect(
    comparison: Comparison,
    arms: list[Compared],
    floors: list[Compared],
    name: str | None,
) -> float | None:
    """Detectable difference between an arm (else the leading one) and its closest rival."""
    ranked = sorted(arms, key=lambda arm: (-(arm.score or 0.0), arm.name))
    name = name or ranked[0].name
    rivals = [arm for arm in ranked if arm.name != name] or floors
    if not rivals:
        return None
    pair = comparison.pairs[name, rivals[0].name]
    if pair.discordance is not None:
        return statistics.minimum_detectable_effect(comparison.n, pair.discordance, POWER)
    return min(1.0, statistics.detectable_from_deviation(pair.error, POWER)) or None
