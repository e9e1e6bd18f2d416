"""The report's part on the learning curve: what more training examples would bring."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from luthier.verdict.evidence import JSON, Evidence, dicts, mapping, text
from luthier.verdict.formatting import Scale, count, number, pair, percent, plural
from luthier.verdict.lines import Drawing, Series, line_plot
from luthier.verdict.plots import nice_ticks


@dataclass(frozen=True)
class Learning:
    """What the part shows.

    Attributes:
        said: the answer.
        arm: whose curve it is.
        drawing: scores over the number of examples, both ways; the band is what one fit may score.
        lines: (examples, scores or expectation, whether it was measured) for the table.
        level: of the band, as "90 %".
    """

    said: str
    arm: str
    drawing: Drawing
    lines: tuple[tuple[str, str, bool], ...]
    level: str


def learning_panel(evidence: Evidence, scale: Scale) -> Learning | None:
    """The part; None for a run without a learning curve."""
    held = mapping(evidence.verdict.get("learning_curve"))
    points = _points(held)
    if len(points) < 2:
        return None
    arm = text(held.get("arm"))
    lines = [
        (count(n), ", ".join(scale.show(score) for score in scores), True) for n, scores in points
    ]
    for one in dicts(held.get("predictions")):
        score, ends = number(one.get("score")), pair(one.get("interval"))
        if score is not None and ends is not None:
            said = f"{scale.show(score)} ({scale.show(ends[0])} to {scale.show(ends[1])})"
            lines.append((count(one.get("examples")), said, False))
    return Learning(
        said=text(held.get("said")),
        arm=arm,
        drawing=Drawing(_plot(held, points, scale, text(held.get("said"))), (arm,)),
        lines=tuple(lines),
        level=percent(held.get("level"), 0),
    )


def missing_curves(evidence: Evidence) -> list[str]:
    """Of which arms there is no learning curve, and why, in sentences."""
    return [
        said
        for one in dicts(evidence.verdict.get("no_learning_curve"))
        if (said := text(one.get("said")))
    ]


def _points(held: JSON) -> list[tuple[float, list[float]]]:
    """(examples, scores of the fits on so many), ascending."""
    found = []
    for one in dicts(held.get("points")):
        n, scores = number(one.get("examples")), one.get("scores")
        known = [number(score) for score in scores] if isinstance(scores, list) else []
        fits = [score for score in known if score is not None]
        if n is not None and n >= 1 and fits:
            found.append((n, fits))
    return sorted(found)


def _plot(held: JSON, points: list[tuple[float, list[float]]], scale: Scale, said: str) -> Markup:
    band = []
    for one in dicts(held.get("band")):
        n, score, ends = (
            number(one.get("examples")),
            number(one.get("score")),
            pair(one.get("interval")),
        )
        if n is not None and n >= 1 and score is not None and ends is not None:
            band.append((n, score, ends))
    band.sort()
    values = [score for _, fits in points for score in fits]
    values += [end for _, _, ends in band for end in ends]
    ticks = nice_ticks(min(values), max(values), 5)
    low, high = ticks[0], max(ticks[-1], ticks[0] + 1e-9)
    first, last = points[0][0], max(points[-1][0], band[-1][0] if band else 0)

    def x(n: float) -> float:
        return math.log(n / first) / math.log(last / first)

    def y(value: float) -> float:
        return (value - low) / (high - low)

    across = [(x(n), count(n)) for n, _ in points]
    across += [
        (x(n), count(n))
        for one in dicts(held.get("predictions"))
        if (n := number(one.get("examples"))) is not None and first <= n <= last
    ]
    return line_plot(
        [
            Series(
                text(held.get("arm")),
                [(x(n), y(score)) for n, score, _ in band],
                [(x(n), y(score)) for n, fits in points for score in fits],
                [(x(n), y(ends[0]), y(ends[1])) for n, _, ends in band],
            )
        ],
        across=across,
        up=[(y(tick), scale.tick(tick)) for tick in ticks],
        words=f"Score over the number of training examples, from {plural(int(first), 'example')} "
        f"to {plural(int(last), 'example')}. {said}",
        identifier="plot-learning",
    )
