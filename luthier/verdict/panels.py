"""Panels of what a run holds beside scores: how sure arms are, and how they write."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from luthier.verdict.evidence import JSON, Arm, Evidence, mapping
from luthier.verdict.formatting import DASH, NBSP, count, number, pair, percent, plain
from luthier.verdict.lines import MOST_LINES, Drawing, Series, line_plot
from luthier.verdict.views import Cell, Line, Table, line_of, ranked


def compared_arms(evidence: Evidence, focus: Arm | None) -> list[Arm]:
    """The arm in focus and its runner-up: the best of the others, a floor only if alone."""
    if focus is None:
        return []
    others = [arm for arm in ranked(evidence) if arm is not focus]
    others.sort(key=lambda arm: arm.result.get("floor") is True)
    return [focus, *others[:1]]


@dataclass(frozen=True)
class Confidence:
    """How far arms know when they are right.

    Attributes:
        table: calibration error, mean confidence, and accuracy of the surest four in five.
        curve: accuracy over the share that is answered.
        said: what the arm in focus gains by leaving out what it is least sure of, or "".
    """

    table: Table
    curve: Drawing
    said: str


def confidence_panel(evidence: Evidence, focus: Arm | None) -> Confidence | None:
    """The panel; None where no arm tells how sure it is."""
    arms = [arm for arm in ranked(evidence) if _held(arm)]
    arms.sort(key=lambda arm: arm is not focus)
    if not arms:
        return None
    lines = []
    for arm in sorted(arms, key=lambda arm: ranked(evidence).index(arm)):
        held = _held(arm)
        kept = mapping(held.get("selective"))
        ends = pair(kept.get("interval_of_kept"))
        lines.append(
            line_of(
                evidence,
                arm,
                Cell(percent(held.get("ece")), _chance(pair(held.get("ece_by_chance")))),
                Cell(percent(held.get("confidence"))),
                Cell(percent(held.get("accuracy"))),
                Cell(percent(kept.get("accuracy_of_kept")), _percents(ends)),
            )
        )
    heads = ("Calibration error", "Mean confidence", "Accuracy", "Of the surest 80 %")
    return Confidence(
        Table("Confidence against what was right", heads, tuple(lines)),
        _selective(arms[:MOST_LINES]),
        _gain(focus) if focus is not None and _held(focus) else "",
    )


def _chance(ends: tuple[float, float] | None) -> str:
    """What a calibrated arm has on as many rows; a run of an older version does not say."""
    return "" if ends is None else f"calibrated: {percent(ends[0])}, up to {percent(ends[1])}"


def _held(arm: Arm) -> JSON:
    """An arm's calibration, where it has a curve."""
    held = mapping(arm.result.get("calibration"))
    return held if len(_curve(held)) > 1 else {}


def _curve(held: JSON) -> list[tuple[float, float]]:
    points = mapping(held.get("selective")).get("curve")
    found = [pair(point) for point in points] if isinstance(points, list) else []
    return sorted(p for p in found if p is not None and 0 <= p[0] <= 1 and 0 <= p[1] <= 1)


def _gain(focus: Arm) -> str:
    held = _held(focus)
    kept = mapping(held.get("selective"))
    if number(kept.get("accuracy_of_kept")) is None:
        return ""
    return (
        f"{focus.name} answers only the surest 80 %: accuracy "
        f"{percent(kept.get('accuracy_of_kept'))}, against {percent(held.get('accuracy'))} when "
        "it answers everything."
    )


def _selective(arms: list[Arm]) -> Drawing:
    curves = [(arm.name, _curve(_held(arm))) for arm in arms]
    lowest = min(value for _, points in curves for _, value in points)
    low = max(0.0, math.floor(lowest * 5) / 5)
    low = low if low < 1 else 0.8
    step = 0.1 if low >= 0.6 else 0.2
    ticks = [round(low + step * i, 6) for i in range(round((1 - low) / step) + 1)]
    series = [
        Series(name, [(x, (value - low) / (1 - low)) for x, value in points])
        for name, points in curves
    ]
    said = "; ".join(
        f"{name} {percent(points[-1][1])} of all, {percent(_at(points, 0.5))} of the surest half"
        for name, points in curves
    )
    plot = line_plot(
        series,
        across=[(x, f"{plain(100 * x, 0)}{NBSP}%") for x in (0.0, 0.25, 0.5, 0.75, 1.0)],
        up=[((tick - low) / (1 - low), f"{plain(100 * tick, 0)}{NBSP}%") for tick in ticks],
        words=f"Accuracy over the share of answers kept, the surest first: {said}.",
        identifier="plot-selective",
    )
    return Drawing(plot, tuple(one.name for one in series))


def _at(points: list[tuple[float, float]], share: float) -> float:
    return min(points, key=lambda point: abs(point[0] - share))[1]


def behaviour_table(evidence: Evidence) -> Table | None:
    """How the answers of each arm behave, beside the references; None where nothing is known."""
    arms = [arm for arm in ranked(evidence) if mapping(arm.result.get("behaviour"))]
    if not arms:
        return None
    wanted = any(_of(arm, "length_ratio_wanted") is not None for arm in arms)
    lines = []
    for arm in arms:
        held = mapping(arm.result.get("behaviour"))
        cells = [
            Cell(count(held.get("words"))),
            Cell(_times(held.get("length_ratio"))),
            *([Cell(_times(held.get("length_ratio_wanted")))] if wanted else []),
            Cell(percent(held.get("repetition"))),
            *(
                _share(held.get(key))
                for key in ("ended", "cut_off", "answers_nothing", "same_language")
            ),
        ]
        lines.append(line_of(evidence, arm, *cells))
    held = mapping(arms[0].result.get("behaviour"))
    lines.append(
        Line(
            "references",
            False,
            "",
            (
                Cell(DASH),
                Cell(_times(1)),
                *([Cell(DASH)] if wanted else []),
                Cell(percent(held.get("repetition_of_references"))),
                Cell(DASH),
                Cell(DASH),
                _share(held.get("references_answer_nothing")),
                Cell(DASH),
            ),
        )
    )
    heads = (
        "Words, median",
        "Length against references",
        *(["Length against wanted"] if wanted else []),
        "Repeated 4-grams",
        "Ended by itself",
        "Cut off",
        "Answers nothing",
        "Language of the reference",
    )
    return Table("Behaviour of each arm, beside the references", heads, tuple(lines))


def _of(arm: Arm, key: str) -> float | None:
    return number(mapping(arm.result.get("behaviour")).get(key))


def _times(value: Any) -> str:
    known = number(value)
    return DASH if known is None else f"×{NBSP}{plain(known, 2)}"


def _share(value: Any) -> Cell:
    held = mapping(value)
    ends = pair(held.get("interval"))
    return Cell(percent(held.get("share")), _percents(ends))


def _percents(ends: tuple[float, float] | None) -> str:
    return f"{plain(100 * ends[0])} to {plain(100 * ends[1])}{NBSP}%" if ends else ""
