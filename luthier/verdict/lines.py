"""Several lines in one drawing, told apart by dash as well as by colour, as inline SVG.

As in `curves.py`, lines are drawn in a box that is stretched to the width there is, and numbers
stand beside it in the page's own text size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

#: Lines that the style sheet can tell apart.
MOST_LINES = 4
_WIDE, _HIGH, _AXIS = 1000, 190, 24
#: The share of the width that the box takes, in percent; the rest is for numbers.
_SHARE = 84.0

#: (place from 0 to 1, what stands there)
Ticks = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Series:
    """One line: its name, its points from 0 to 1 both ways (y upwards), and dots on it."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: Sequence[tuple[float, float]] = ()
    #: (x, low, high): what is shaded behind it
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Drawing:
    """A drawing of lines, and the names of the lines in order."""

    plot: Markup
    names: tuple[str, ...]


def line_plot(
    series: Sequence[Series], *, across: Ticks, up: Ticks, words: str, identifier: str
) -> Markup:
    """A drawing of at most four lines; nothing ("") for none.

    Args:
        series: the first one is drawn in the accent colour.
        across: ticks below.
        up: ticks at the right, with a grid line each.
        words: the same in words, for screen readers.
        identifier: unique in the page.
    """
    if not series:
        return Markup("")
    grid = Markup("").join(
        Markup('<line class="grid" x1="0" x2="{}" y1="{y}" y2="{y}"/>').format(_WIDE, y=_y(place))
        for place, _ in up
    )
    lines = Markup("").join(
        Markup('<polyline class="line-{}" points="{}"/>').format(
            index, " ".join(f"{_WIDE * x:.1f},{_y(y)}" for x, y in one.points)
        )
        for index, one in reversed(list(enumerate(series[:MOST_LINES])))
    )
    shades = Markup("").join(
        Markup('<polygon class="band" points="{}"/>').format(
            " ".join(
                f"{_WIDE * x:.1f},{_y(y)}"
                for x, y in [
                    *((x, low) for x, low, _ in one.band),
                    *((x, high) for x, _, high in reversed(one.band)),
                ]
            )
        )
        for one in series[:MOST_LINES]
        if one.band
    )
    # dots are lines of no length with round ends, which stretching leaves round
    dots = Markup("").join(
        Markup('<path class="line-dot" d="M{:.1f} {}h0"/>').format(_WIDE * x, _y(y))
        for one in series[:MOST_LINES]
        for x, y in one.dots
    )
    numbers = Markup("").join(
        Markup('<text class="tick" x="{}%" y="{:.1f}">{}</text>').format(
            _SHARE + 1.5, float(_y(place)) + 4, said
        )
        for place, said in up
    )
    numbers += Markup("").join(
        Markup('<text class="tick" x="{:.2f}%" y="{}" text-anchor="{}">{}</text>').format(
            _SHARE * place,
            _HIGH + 18,
            "start" if place < 0.02 else "end" if place > 0.98 else "middle",
            said,
        )
        for place, said in across
    )
    return Markup(
        '<svg class="curves lines" width="100%" height="{all}" role="img" aria-labelledby="{id}">'
        '<title id="{id}">{words}</title>'
        '<svg x="0" y="0" width="{share}%" height="{high}" viewBox="0 0 {wide} {high}" '
        'preserveAspectRatio="none" aria-hidden="true">{inside}</svg>{numbers}</svg>'
    ).format(
        all=_HIGH + _AXIS,
        id=identifier,
        words=words,
        share=_SHARE,
        high=_HIGH,
        wide=_WIDE,
        inside=shades + grid + lines + dots,
        numbers=numbers,
    )


def _y(place: float) -> str:
    return f"{4 + (_HIGH - 8) * (1 - min(1.0, max(0.0, place))):.1f}"
