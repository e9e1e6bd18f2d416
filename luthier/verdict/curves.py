"""How training went: loss, validation loss and learning rate over the steps, as inline SVG.

Lines are drawn in a box of 1000 units that is stretched to the width there is, with strokes that
keep their thickness; numbers stand beside it in the page's own text size. So one drawing serves a
phone, a wide screen and paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from luthier.verdict.evidence import JSON
from luthier.verdict.formatting import count, figure, number, pair, plain
from luthier.verdict.plots import nice_ticks

Points = list[tuple[float, float]]

#: Points of a line; more are averaged in equal bins.
_POINTS = 240
#: Units across the stretched box, and the share of the width it takes; the rest is for numbers.
_WIDE, _SHARE = 1000, 91.0
_HIGH, _RATE_HIGH, _AXIS = 190, 46, 24
#: Losses further apart than this factor are drawn on a logarithmic scale.
_FAR = 20.0


@dataclass(frozen=True)
class Curves:
    """Drawings of one arm's training.

    Attributes:
        loss: training loss, its moving average, and the validation loss.
        loss_words: the same in a sentence.
        smoothed: whether a moving average is drawn over the single steps.
        validated: whether a validation loss is drawn.
        logarithmic: whether equal distances are equal factors of the loss.
        rate: the learning rate over the steps, or "".
        rate_words: the same in a sentence.
    """

    loss: Markup
    loss_words: str
    smoothed: bool
    validated: bool
    logarithmic: bool
    rate: Markup
    rate_words: str


def curves_of(record: JSON, identifier: str) -> Curves | None:
    """The drawings of an arm.json; None where fewer than two steps are known.

    Args:
        record: `curve`, `validation`, `rates` and `best_step`, each but the first optional.
        identifier: unique in the page.
    """
    losses = _points(record.get("curve"))
    if len(losses) < 2:
        return None
    validation = _points(record.get("validation"))
    rates = [point for point in _points(record.get("rates")) if point[1] >= 0]
    if not any(rate > 1e-30 for _, rate in rates):
        rates = []  # nothing to scale a drawing by
    best = number(record.get("best_step"))
    smoothed = _moving(losses) if len(losses) >= 20 else []
    words = _in_words(losses, smoothed, validation, best)
    last = losses[-1][0]
    scale = _scale([y for _, y in [*(smoothed or losses), *validation]])
    return Curves(
        loss=_loss(losses, smoothed, validation, best, words, identifier, scale),
        loss_words=words,
        smoothed=bool(smoothed),
        validated=bool(validation),
        logarithmic=scale.logarithmic,
        rate=_rate(rates, last, identifier) if len(rates) > 1 else Markup(""),
        rate_words=_rate_words(rates) if len(rates) > 1 else "",
    )


def _points(value: Any) -> Points:
    """The pairs of finite numbers in a list, by step; those that are none are left out."""
    if not isinstance(value, list):
        return []
    found = [ends for item in value if (ends := pair(item)) is not None and abs(ends[1]) < 1e12]
    # what is too small to be scaled by is nothing
    even = [(step, value if abs(value) > 1e-30 else 0.0) for step, value in found]
    return sorted(even, key=lambda point: point[0])


def _in_words(losses: Points, smoothed: Points, validation: Points, best: float | None) -> str:
    shown = smoothed or losses
    said = (
        f"Training loss {figure(shown[0][1])} → {figure(shown[-1][1])} over "
        f"{count(losses[-1][0])} steps"
    )
    if validation:
        lowest = min(validation, key=lambda point: point[1])
        said += f"; validation loss lowest at {figure(lowest[1])}, after step {count(lowest[0])}"
    if best is not None:
        said += f"; the weights of step {count(best)} were kept"
    return said


def _rate_words(rates: Points) -> str:
    peak = max(rates, key=lambda point: point[1])
    return f"Learning rate, {peak[1]:.1e} at its highest, after step {count(peak[0])}"


def _moving(points: Points) -> Points:
    """A centred mean over a twentieth of the steps, three at least: single steps differ by their
    rows more than by what was learned."""
    half = max(1, len(points) // 40)
    out = []
    for i, (step, _) in enumerate(points):
        near = points[max(0, i - half) : i + half + 1]
        out.append((step, sum(y for _, y in near) / len(near)))
    return out


def _loss(
    losses: Points,
    smoothed: Points,
    validation: Points,
    best: float | None,
    words: str,
    identifier: str,
    scale: _Scale,
) -> Markup:
    ticks = scale.ticks
    first, last = losses[0][0], losses[-1][0]

    def x(step: float) -> float:
        return _WIDE * (step - first) / max(last - first, 1e-9)

    def y(value: float) -> float:
        return 4 + (_HIGH - 8) * (1 - scale.share(value))

    grid = Markup("").join(
        Markup('<line class="grid" x1="0" x2="{}" y1="{}" y2="{}"/>').format(
            _WIDE, _at(y(tick)), _at(y(tick))
        )
        for tick in ticks
    )
    lines = _line(losses, x, y, "steps" if smoothed else "trained")
    if smoothed:
        lines += _line(smoothed, x, y, "trained")
    if best is not None and first <= best <= last:
        lines += Markup('<line class="kept" x1="{0}" x2="{0}" y1="0" y2="{1}"/>').format(
            _at(x(best)), _HIGH
        )
    if validation:
        lines += _line(validation, x, y, "validated")
    # dots are drawn as lines of no length with round ends, which stretching leaves round
    lines += Markup("").join(
        Markup('<path class="validated-dot" d="M{0} {1}h0"/>').format(_at(x(s)), _at(y(v)))
        for s, v in (validation if len(validation) <= 40 else [])
    )
    numbers = Markup("").join(
        Markup('<text class="tick" x="{}%" y="{}">{}</text>').format(
            _SHARE + 1.5, _at(y(tick) + 4), scale.say(tick)
        )
        for tick in ticks
    )
    return _drawing(grid + lines, numbers + _steps(first, last, _HIGH), _HIGH, words, identifier)


def _rate(rates: Points, last: float, identifier: str) -> Markup:
    peak = max(rate for _, rate in rates)
    first = rates[0][0]

    def x(step: float) -> float:
        return _WIDE * (step - first) / max(last - first, 1e-9)

    def y(rate: float) -> float:
        return 4 + (_RATE_HIGH - 8) * (1 - rate / peak)

    base = Markup('<line class="grid" x1="0" x2="{0}" y1="{1}" y2="{1}"/>').format(
        _WIDE, _at(y(0.0))
    )
    return _drawing(
        base + _line(rates, x, y, "rate"),
        Markup('<text class="tick" x="{}%" y="{}">0</text>').format(_SHARE + 1.5, _at(y(0.0) + 4)),
        _RATE_HIGH,
        _rate_words(rates),
        f"{identifier}-rate",
        axis=0,
    )


def _drawing(
    lines: Markup,
    numbers: Markup,
    height: int,
    words: str,
    identifier: str,
    axis: int = _AXIS,
) -> Markup:
    return Markup(
        '<svg class="curves" width="100%" height="{all}" role="img" aria-labelledby="{id}">'
        '<title id="{id}">{words}</title>'
        '<svg x="0" y="0" width="{share}%" height="{high}" viewBox="0 0 {wide} {high}" '
        'preserveAspectRatio="none" aria-hidden="true">{lines}</svg>{numbers}</svg>'
    ).format(
        all=height + axis,
        id=identifier,
        words=words,
        share=_SHARE,
        high=height,
        wide=_WIDE,
        lines=lines,
        numbers=numbers,
    )


def _steps(first: float, last: float, top: int) -> Markup:
    """First and last step, and what they are."""
    return Markup(
        '<text class="tick" x="0" y="{y}">step {first}</text>'
        '<text class="tick" x="{share}%" y="{y}" text-anchor="end">{last}</text>'
    ).format(y=top + 18, share=_SHARE, first=count(first), last=count(last))


def _line(points: Points, x: Any, y: Any, kind: str) -> Markup:
    path = " ".join(f"{_at(x(step))},{_at(y(value))}" for step, value in _binned(points))
    return Markup('<polyline class="{}" points="{}"/>').format(kind, path)


def _binned(points: Points) -> Points:
    if len(points) <= _POINTS:
        return points
    size = len(points) / _POINTS
    out = []
    for i in range(_POINTS):
        some = points[int(i * size) : max(int(i * size) + 1, int((i + 1) * size))]
        out.append((sum(s for s, _ in some) / len(some), sum(v for _, v in some) / len(some)))
    # the ends stay where they are
    return [points[0], *out[1:-1], points[-1]]


def _at(value: float) -> str:
    return f"{value:.1f}"


@dataclass(frozen=True)
class _Scale:
    """Where a loss stands between the lowest and the highest tick, 0 to 1."""

    ticks: list[float]
    logarithmic: bool

    def share(self, value: float) -> float:
        """What lies beyond the ticks stands at the edge."""
        low, high = self.ticks[0], self.ticks[-1]
        value = min(max(value, low), high)
        if self.logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def say(self, value: float) -> str:
        """As many decimals as the ticks ask for."""
        if self.logarithmic:
            return f"{value:g}"
        step = self.ticks[1] - self.ticks[0]
        decimals = 0 if step >= 1 else 1 if step >= 0.1 else 2 if step >= 0.01 else 3
        if round(step * 10**decimals, 6) % 1:
            decimals += 1
        return plain(value, decimals)


def _scale(values: Sequence[float]) -> _Scale:
    """A scale on which the losses can be told apart: logarithmic where the highest is more than
    twenty times the lowest, since the first steps would press everything after them flat."""
    low, high = min(values), max(values)
    if low > 0 and high / low > _FAR:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [m * 10.0**d for d in decades for m in ((1, 3) if len(decades) <= 4 else (1,))]
        below = [tick for tick in ticks if tick <= low]
        above = [tick for tick in ticks if tick >= high]
        return _Scale([t for t in ticks if below[-1] <= t <= above[0]], logarithmic=True)
    return _Scale(nice_ticks(low, high, 4), logarithmic=False)
