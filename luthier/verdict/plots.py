"""Small drawings as inline SVG: no library, no network, readable by screen readers and in print.

Horizontal positions are percentages, so a drawing fills any width while its text keeps its size.
Colours come from the page's style sheet by class, so light, dark and print need no second drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from luthier.verdict.formatting import Scale

TOP = 26  # px for the label of a limit line
AXIS = 26  # px for tick labels
WIDE = 928  # units across the wide drawing, which scales; the narrow one keeps its text size
LETTER = 7.6  # px that a letter of a name takes at most, about
LONGEST_NAME = 34  # characters
#: Characters of a name and its note together, where they stand beside the lines, and above them.
BESIDE, ABOVE = 50, 35


@dataclass(frozen=True)
class Dot:
    """One line of a dot-and-whisker plot.

    Attributes:
        name: what the dot stands for.
        value: where it is, in the unit of the scores.
        interval: ends of its whisker, None when unknown.
        note: said after the name ("recommended").
        marked: drawn in the accent colour.
        faint: drawn in grey: nothing can be told of it.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    note: str = ""
    marked: bool = False
    faint: bool = False


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten apart) that enclose [low, high].

    Heckbert, "Nice numbers for graph labels", Graphics Gems (1990).
    """
    size = max(abs(low), abs(high), 1.0)
    if size > 1e100:  # no score is; and the arithmetic below must not overflow
        low, high, size = max(low, -1e100), min(high, 1e100), 1e100
    if not high - low > 1e-9 * size:
        low, high = low - 0.05 * size, low + 0.05 * size
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


@dataclass(frozen=True)
class _Frame:
    """Where things go in one drawing; names stand left of the lines, or (narrow) above them."""

    low: float
    high: float
    left: float
    right: float
    row: int
    top: int
    wide: bool

    def x(self, value: float) -> str:
        """The place of a value: units in the wide drawing, percent in the narrow one."""
        place = self.left + (self.right - self.left) * (value - self.low) / (self.high - self.low)
        return f"{place:.1f}" if self.wide else f"{place:.2f}%"


def dot_and_whisker(
    dots: Sequence[Dot],
    scale: Scale,
    *,
    title: str,
    description: str,
    identifier: str,
    limit: float | None = None,
    limit_label: str = "",
    zero: bool = False,
) -> Markup:
    """Scores with their intervals, one line each, from top to bottom in the order given.

    Two drawings come back, for wide and for narrow screens; the style sheet shows one of them.

    Args:
        dots: the lines; none gives an empty drawing ("").
        scale: how values are written.
        title: short name, read out by screen readers.
        description: what is to be seen, in words.
        identifier: unique in the page; makes the ids of titles and descriptions.
        limit: where to draw a dashed vertical line, None for nowhere.
        limit_label: what the dashed line is.
        zero: whether the axis must reach 0.
    """
    if not dots:
        return Markup("")
    ends = [end for dot in dots for end in (dot.value, *(dot.interval or ()))]
    ends += [0.0] if zero else []
    ends += [limit] if limit is not None else []
    ticks = nice_ticks(min(ends), max(ends))
    names = max(sum(map(len, _label(dot, BESIDE))) + 2 for dot in dots)
    top = TOP if limit is not None else 4
    left = min(max(names * LETTER + 20, 120.0), 400.0)
    drawings = []
    for frame in (
        _Frame(ticks[0], ticks[-1], left, WIDE - 90.0, 38, top, wide=True),
        _Frame(ticks[0], ticks[-1], 2.0, 98.0, 54, top, wide=False),
    ):
        name = f"{identifier}-{'wide' if frame.wide else 'narrow'}"
        height = top + frame.row * len(dots) + AXIS
        size = f'viewBox="0 0 {WIDE} {height}"' if frame.wide else f'width="100%" height="{height}"'
        lines = [_line(dot, frame, index, scale) for index, dot in enumerate(dots)]
        drawings.append(
            Markup(
                '<svg class="dots {kind}" {size} role="img" aria-labelledby="{id}-t {id}-d">'
                '<title id="{id}-t">{title}</title><desc id="{id}-d">{description}</desc>'
                "{axis}{lines}</svg>"
            ).format(
                kind="wide-only" if frame.wide else "narrow-only",
                size=Markup(size),
                id=name,
                title=title,
                description=description,
                axis=_axis(frame, ticks, top + frame.row * len(dots), scale, limit, limit_label),
                lines=Markup("").join(lines),
            )
        )
    return Markup("").join(drawings)


def _axis(
    frame: _Frame,
    ticks: list[float],
    bottom: int,
    scale: Scale,
    limit: float | None,
    limit_label: str,
) -> Markup:
    """Grid lines with their values, and the dashed line of the limit."""
    parts: list[Markup] = []
    for index, tick in enumerate(ticks):
        x, anchor, text_x = frame.x(tick), "middle", frame.x(tick)
        if not frame.wide and index in (0, len(ticks) - 1):
            anchor, text_x = ("end", "100%") if index else ("start", "0%")
        parts.append(
            Markup(
                '<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
                '<text class="tick" x="{3}" y="{4}" text-anchor="{5}">{6}</text>'
            ).format(x, frame.top, bottom, text_x, bottom + 19, anchor, scale.tick(tick))
        )
    if limit is not None:
        late = (limit - frame.low) / (frame.high - frame.low) > 0.5
        parts.append(
            Markup(
                '<line class="limit" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
                '<text class="limit-label" x="{0}" y="13" text-anchor="{3}">{4}</text>'
            ).format(frame.x(limit), 18, bottom, "end" if late else "start", limit_label)
        )
    return Markup("").join(parts)


def _line(dot: Dot, frame: _Frame, index: int, scale: Scale) -> Markup:
    """One arm: its name, its whisker and dot, its score at the right."""
    top = frame.top + frame.row * index
    text_y, y = (
        (top + frame.row / 2 + 5, top + frame.row / 2) if frame.wide else (top + 22, top + 36)
    )
    shown, said = _label(dot, BESIDE if frame.wide else ABOVE)
    note = Markup(' <tspan class="dot-note">{}</tspan>').format(said) if said else ""
    whisker = Markup("")
    if dot.interval is not None:
        whisker = Markup(
            '<line x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
            '<line x1="{low}" x2="{low}" y1="{up}" y2="{down}"/>'
            '<line x1="{high}" x2="{high}" y1="{up}" y2="{down}"/>'
        ).format(
            low=frame.x(dot.interval[0]), high=frame.x(dot.interval[1]), y=y, up=y - 4, down=y + 4
        )
    return Markup(
        '<g class="{cls}"><text class="dot-name" x="0" y="{text}">{name}{note}</text>'
        '<text class="dot-value" x="{end}" y="{text}" text-anchor="end">{value}</text>'
        '{whisker}<circle cx="{x}" cy="{y}" r="{r}"/></g>'
    ).format(
        cls="dot marked" if dot.marked else "dot faint" if dot.faint else "dot",
        text=text_y,
        name=shown,
        note=note,
        end=WIDE if frame.wide else "100%",
        value=scale.show(dot.value),
        whisker=whisker,
        x=frame.x(dot.value),
        y=y,
        r=6 if dot.marked else 4.5,
    )


def _label(dot: Dot, room: int) -> tuple[str, str]:
    """(name, note), cut to what there is room for; the name first, as a cut number of rows would
    be another number."""

    def cut(said: str, longest: int) -> str:
        return said if len(said) <= longest else f"{said[: longest - 1].rstrip()}…"

    note = cut(dot.note, max(room // 2, room - len(dot.name) - 1))
    return cut(dot.name, min(LONGEST_NAME, room - len(note) - 1)), note


def bar(share: float) -> Markup:
    """A horizontal bar; `share` of the width, 0 to 1. Decoration beside a number."""
    width = f"{max(0.0, min(1.0, share)) * 100:.1f}%"
    return Markup(
        '<svg class="bar" width="100%" height="10" aria-hidden="true">'
        '<rect class="bar-room" width="100%" height="10" rx="2"/>'
        f'<rect class="bar-fill" width="{escape(width)}" height="10" rx="2"/></svg>'
    )
