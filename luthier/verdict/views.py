"""What each part of a report says: numbers of a run folder turned into words, cell by cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from luthier.evaluation import costs
from luthier.task_sections import Prices
from luthier.verdict.evidence import Arm, Evidence, dicts, mapping, text
from luthier.verdict.formatting import (
    DASH,
    Scale,
    compact,
    count,
    figure,
    memory,
    number,
    p_value,
    pair,
    percent,
    plain,
    seconds,
)
from luthier.verdict.plots import Dot, dot_and_whisker

#: Nobody asks so often.
_MOST_ROUNDED = 1e15


@dataclass(frozen=True)
class Cell:
    """One table cell: its text, and a smaller second line."""

    text: str
    sub: str = ""


@dataclass(frozen=True)
class Line:
    """One table row: an arm and its cells; `tag` says what is special about the arm."""

    name: str
    marked: bool
    tag: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table of arms. `heads` are the column heads after `first`, which is the arm's."""

    caption: str
    heads: tuple[str, ...]
    lines: tuple[Line, ...]
    first: str = "Arm"


def is_recommended(evidence: Evidence, arm: Arm) -> bool:
    """Whether the verdict recommends `arm`; in an undecided verdict that is the best guess."""
    return arm.name == evidence.verdict.get("recommendation")


def tag_of(evidence: Evidence, arm: Arm) -> str:
    """What is special about an arm, in a word or two, or ""."""
    if is_recommended(evidence, arm):
        return "recommended" if evidence.verdict.get("decision") == "deploy" else "best guess"
    if arm.result.get("ceiling") is True:
        return "upper bound"
    return "floor" if arm.result.get("floor") is True else ""


def scale_of(evidence: Evidence) -> Scale:
    """The scale that fits all scores of the run."""
    values: list[float] = []
    for arm in evidence.arms:
        found = [number(arm.result.get("score")), *(pair(arm.result.get("interval")) or ())]
        values += [value for value in found if value is not None]
    return Scale(values)


def ranked(evidence: Evidence) -> list[Arm]:
    """The arms that have a score, the best first; ties keep the verdict's order."""
    scored = [(number(arm.result.get("score")), arm) for arm in evidence.arms if not arm.failed]
    known = [(score, arm) for score, arm in scored if score is not None]
    return [arm for _, arm in sorted(known, key=lambda item: -item[0])]


def unscored(evidence: Evidence) -> list[tuple[str, str]]:
    """(names, reason) of the arms without a score, and of those that were left out of the run;
    those with the same reason together."""
    have = {arm.name for arm in ranked(evidence)}
    failed = [
        (arm.name, "failed: " + (arm.failed or "it has no score, and no reason was recorded"))
        for arm in evidence.arms
        if arm.name not in have
    ]
    left_out = [
        (text(item.get("name")), "left out: " + (text(item.get("why")) or "no reason recorded"))
        for item in dicts(evidence.manifest.get("left_out"))
    ]
    together: dict[str, list[str]] = {}
    for name, reason in failed + left_out:
        together.setdefault(reason, []).append(name)
    return [(", ".join(names), reason) for reason, names in together.items()]


def detectable(evidence: Evidence, scale: Scale) -> str:
    """The minimum detectable effect as a sentence, or ""."""
    effect = number(evidence.verdict.get("minimum_detectable_effect"))
    if effect is None:
        return ""
    scaled = effect * scale.factor
    size = plain(scaled, 0 if scaled >= 2 else 1) if scale.is_percent else figure(scaled)
    points = "" if not scale.is_percent else " point" if size == "1" else " points"
    real = [arm for arm in ranked(evidence) if not only_compared_with(arm)]
    if len(real) == 1:  # which was held against the floor
        return f"this test can tell an arm from the floor by about {size}{points}"
    return f"this test can tell apart arms that differ by about {size}{points}"


def only_compared_with(arm: Arm) -> bool:
    """Whether it is a floor or an upper bound, which nobody deploys."""
    return bool(arm.result.get("floor") or arm.result.get("ceiling"))


def limit_of(evidence: Evidence) -> float | None:
    """The score below which nothing is worth deploying, if the task names one."""
    return number(mapping(evidence.task.get("success")).get("at_least"))


def score_plot(evidence: Evidence, scale: Scale, metric: str) -> Markup:
    """Scores and intervals of all arms that have one."""
    dots = [
        Dot(
            name=arm.name,
            value=number(arm.result.get("score")) or 0.0,
            interval=pair(arm.result.get("interval")),
            note=tag_of(evidence, arm),
            marked=is_recommended(evidence, arm),
        )
        for arm in ranked(evidence)
    ]
    limit = limit_of(evidence)
    said = "; ".join(
        f"{dot.name} {scale.show(dot.value)}"
        + (f" ({scale.interval(dot.interval)})" if dot.interval else "")
        + (f", {dot.note}" if dot.note else "")
        for dot in dots
    )
    wanted = f" A dashed line marks the wanted {scale.show(limit)}." if limit is not None else ""
    return dot_and_whisker(
        dots,
        scale,
        title=f"{metric} of each arm with its 95 % interval",
        description=f"{said}.{wanted}",
        identifier="plot-scores",
        limit=limit,
        limit_label=f"wanted: at least {scale.tick(limit)}" if limit is not None else "",
    )


def score_table(evidence: Evidence, scale: Scale, metric: str) -> Table:
    """Score, interval, difference against the best, p and adjusted p, invalid answers."""
    arms = ranked(evidence)
    against = Counter(text(mapping(arm.result.get("versus_best")).get("arm")) for arm in arms)
    against.pop("", None)
    best = against.most_common(1)[0][0] if against else ""
    lines = []
    for arm in arms:
        versus = mapping(arm.result.get("versus_best"))
        if arm.name == (best or arms[0].name):
            versus, gap = {}, Cell("the best")
        else:
            gap = Cell(
                scale.difference(versus.get("difference")),
                scale.difference_interval(versus.get("interval")),
            )
        lines.append(
            line_of(
                evidence,
                arm,
                Cell(scale.show(arm.result.get("score"))),
                Cell(scale.interval(arm.result.get("interval"))),
                gap,
                Cell(p_value(versus.get("p"))),
                Cell(p_value(versus.get("p_adjusted"))),
                Cell(percent(arm.result.get("invalid_rate"))),
            )
        )
    points = f", {scale.points}" if scale.points else ""
    return Table(
        caption=f"Scores on the test, and how each differs from {best or 'the best'}",
        heads=(
            metric[:1].upper() + metric[1:],
            "95 % interval",
            f"Against {best or 'the best'}{points}",
            "p",
            "p, Holm-adjusted",
            "Invalid answers",
        ),
        lines=tuple(lines),
    )


def line_of(evidence: Evidence, arm: Arm, *cells: Cell) -> Line:
    """An arm's row of a table."""
    return Line(arm.name, is_recommended(evidence, arm), tag_of(evidence, arm), cells)


def cost_table(evidence: Evidence, focus: Arm | None) -> Table:
    """What each arm costs to make and to ask, and from how many answers on `focus` costs less."""
    lines = []
    arms = ranked(evidence)
    for arm in arms:
        trained, total = number(arm.cost("trained_parameters")), arm.cost("total_parameters")
        share = number(total)
        cells = [
            Cell("none" if arm.cost("train_seconds") == 0 else seconds(arm.cost("train_seconds"))),
            Cell(compact(arm.cost("train_tokens_per_second") or None)),
            Cell("none" if trained == 0 else compact(trained), _of_total(trained, share)),
            Cell(seconds(arm.cost("seconds_per_answer"))),
            Cell(count(arm.cost("prompt_tokens_per_answer"))),
            Cell(memory(arm.cost("peak_memory_bytes"))),
        ]
        if focus is not None and len(arms) > 1:
            cells.append(Cell(DASH if arm is focus else break_even(focus, arm)))
        lines.append(line_of(evidence, arm, *cells))
    heads = [
        "Training time",
        "Training tokens/s",
        "Trained parameters",
        "Time per answer",
        "Prompt tokens per answer",
        "Peak memory",
    ]
    if focus is not None and len(arms) > 1:
        heads.append(f"{focus.name} costs less")
    return Table("What each arm costs, measured on this machine", tuple(heads), tuple(lines))


def _of_total(trained: float | None, total: float | None) -> str:
    if not total:
        return ""
    share = f" ({percent(trained / total)})" if trained else ""
    return f"of {compact(total)}{share}"


def break_even(focus: Arm, other: Arm) -> str:
    """From how many answers on `focus` has taken less machine time than `other`.

    Time for N answers is training + N x seconds per answer, so the two meet at
    N = (training difference) / (difference per answer).
    """
    own, theirs = (spending_of(arm) for arm in (focus, other))
    if own is None or theirs is None:
        return DASH
    found = costs.break_even(own, theirs)
    if found.answers is None:
        return found.when
    if found.when == "from":
        return f"from {_to_three_digits(found.answers, math.ceil)} answers on"
    return f"up to {_to_three_digits(found.answers, math.floor)} answers"


def _to_three_digits(answers: float, rounded: Callable[[float], int]) -> str:
    """A number of answers in three digits, rounded to the side where what is said of it holds."""
    if answers > _MOST_ROUNDED:
        return f"{answers:.3g}"
    unit = 10 ** max(0, math.floor(math.log10(max(answers, 1.0))) - 2)
    # a hair of a unit is an error of floating point
    return f"{rounded(round(answers / unit, 9)) * int(unit):,}"


def spending_of(arm: Arm, prices: Prices | None = None) -> costs.Spending | None:
    """What an arm spends, in seconds or by prices; None where that is not known."""
    return costs.spending({key: number(arm.cost(key)) for key in _SPENT}, prices)


_SPENT = (
    "train_seconds",
    "seconds_per_answer",
    "prompt_tokens_per_answer",
    "completion_tokens_per_answer",
)
