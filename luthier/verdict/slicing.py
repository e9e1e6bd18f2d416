"""The panel of slices: where the recommended arm and its runner-up are weakest."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from luthier.verdict.evidence import JSON, Arm, Evidence, dicts, mapping, text
from luthier.verdict.formatting import DASH, Scale, clip, count, number, pair, plural, words
from luthier.verdict.plots import Dot, dot_and_whisker
from luthier.verdict.views import Cell, only_compared_with

#: Slices that are drawn; all are in the table, up to so many.
DRAWN, LISTED = 10, 150
_LONGEST = 60


@dataclass(frozen=True)
class SliceLine:
    """One slice: its name, how many rows it has, and a cell for each arm.

    Attributes:
        state: "worse", "" or "few" (too few rows to tell).
    """

    name: str
    rows: str
    state: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class SlicePanel:
    """Slices of the test.

    Attributes:
        metric: that they are scored by.
        named: a sentence for each arm: where it is worse than on the whole test.
        plot: the slices the first arm is worst on.
        heads: the arms.
        lines: of all slices, worst first.
        left_out: slices that the table leaves out.
        fewest: rows that a slice needs to be judged.
    """

    metric: str
    named: tuple[str, ...]
    plot: Markup
    heads: tuple[str, ...]
    lines: tuple[SliceLine, ...]
    left_out: int
    fewest: str


def slice_panel(evidence: Evidence, arms: list[Arm]) -> SlicePanel | None:
    """The panel; None where the verdict holds no slices.

    Args:
        evidence: the run folder.
        arms: the recommended (or best) one and its runner-up; the first decides the order.
    """
    held = mapping(evidence.verdict.get("slices"))
    parts = [part for part in dicts(held.get("parts")) if _of(part, arms[:1])]
    if not parts:
        return None
    parts.sort(key=lambda part: _order(part, arms[0]))
    overall = mapping(held.get("overall"))
    scores = [number(_of(part, [arm]).get("score")) for part in parts for arm in arms]
    scale = Scale([score for score in scores if score is not None])
    metric = words(text(held.get("metric"))) or "score"
    return SlicePanel(
        metric=metric,
        # where a floor is wrong says nothing: it gives one answer to everything
        named=tuple(
            _named(parts, arm, scale)
            for arm in arms[:1] + [arm for arm in arms[1:] if not only_compared_with(arm)]
        ),
        plot=_plot(parts, arms[0], number(overall.get(arms[0].name)), scale, metric),
        heads=tuple(arm.name for arm in arms),
        lines=tuple(_line(part, arms, scale) for part in parts[:LISTED]),
        left_out=max(0, len(parts) - LISTED),
        fewest=count(held.get("fewest_rows")),
    )


def _of(part: JSON, arms: list[Arm]) -> JSON:
    """What the first of `arms` did on a slice; empty where it has no score."""
    found = mapping(mapping(part.get("arms")).get(arms[0].name)) if arms else {}
    return found if number(found.get("score")) is not None else {}


def _few(part: JSON, arm: Arm) -> bool:
    return number(_of(part, [arm]).get("p_adjusted")) is None


def _order(part: JSON, arm: Arm) -> tuple[bool, bool, float]:
    """Named ones first, then by score; those with too few rows come last."""
    own = _of(part, [arm])
    return (own.get("worse") is not True, _few(part, arm), number(own.get("score")) or 0.0)


def _name(part: JSON) -> str:
    value = clip(text(part.get("value")), _LONGEST)[0]
    return f"{words(text(part.get('by')))}: {value}"


def _named(parts: list[JSON], arm: Arm, scale: Scale) -> str:
    worse = [part for part in parts if _of(part, [arm]).get("worse") is True]
    if not worse:
        return f"{arm.name}: no part of the test is shown to be worse than the whole."
    said = "; ".join(
        f"{_name(part)} ({scale.show(_of(part, [arm]).get('score'))}, "
        f"{plural(int(number(part.get('n')) or 0), 'row')})"
        for part in worse
    )
    return f"{arm.name} is weaker, by more than chance, on {said}."


def _plot(parts: list[JSON], arm: Arm, overall: float | None, scale: Scale, metric: str) -> Markup:
    dots = []
    for part in parts[:DRAWN]:
        own, rows = _of(part, [arm]), int(number(part.get("n")) or 0)
        worse, few = own.get("worse") is True, _few(part, arm)
        dots.append(
            Dot(
                name=_name(part),
                value=number(own.get("score")) or 0.0,
                interval=pair(own.get("interval")),
                note=plural(rows, "row") + (", worse" if worse else ", too few" if few else ""),
                marked=worse,
                faint=few,
            )
        )
    said = "; ".join(f"{dot.name} {scale.show(dot.value)} ({dot.note})" for dot in dots)
    return dot_and_whisker(
        dots,
        scale,
        title=f"{metric} of {arm.name} by part of the test, worst first",
        description=f"{said}.",
        identifier="plot-slices",
        limit=overall,
        limit_label=f"whole test {scale.show(overall)}" if overall is not None else "",
    )


def _line(part: JSON, arms: list[Arm], scale: Scale) -> SliceLine:
    own = _of(part, arms)
    cells = []
    for arm in arms:
        found = _of(part, [arm])
        sub = scale.interval(found.get("interval")) if found else ""
        cells.append(Cell(scale.show(found.get("score")) if found else DASH, sub))
    few = _few(part, arms[0])
    return SliceLine(
        name=_name(part),
        rows=count(part.get("n")),
        state="worse" if own.get("worse") is True else "few" if few else "",
        cells=tuple(cells),
    )
