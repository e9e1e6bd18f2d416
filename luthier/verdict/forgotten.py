"""The report's part on forgetting: what each tuned arm lost, and in which areas."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from luthier.verdict.evidence import JSON, Arm, Evidence, mapping, text
from luthier.verdict.formatting import DASH, Scale, number, pair, percent, plain, plural, words
from luthier.verdict.plots import Dot, dot_and_whisker
from luthier.verdict.views import Cell, Line, Table, is_recommended, line_of, ranked, tag_of
from luthier.verdict.wording import listed


@dataclass(frozen=True)
class Forgotten:
    """What the part shows.

    Attributes:
        plot: the drop of each arm that was measured, with its interval.
        table: the same, and bits per byte of text; None where nothing was measured.
        areas: accuracy before and after, by area; None without areas.
        unchanged: a sentence on arms whose weights are what they were, or "".
    """

    plot: Markup
    table: Table | None
    areas: Table | None
    unchanged: str


class _Points(Scale):
    """Fractions shown as points: 0.067 is "6.7"."""

    def __init__(self) -> None:
        super().__init__([])
        self.unit = ""


def forgotten(evidence: Evidence) -> Forgotten | None:
    """The part; None for a run without arms."""
    arms = ranked(evidence)
    if not arms:
        return None
    measured = [arm for arm in arms if mapping(arm.result.get("forgetting"))]
    still = [arm for arm in arms if arm not in measured and _unchanged(arm)]
    open_ = [arm for arm in arms if arm not in measured and arm not in still]
    read = any(_held(arm, "bits_per_byte") for arm in measured)
    lines = [_line(evidence, arm, read) for arm in arms if arm in measured or arm in open_]
    heads = ("Drop, points", "95 % interval", *(("Bits per byte of text",) if read else ()))
    # an encoder of its own that gives labels and nothing else has been trained, but not the model
    apart = [arm for arm in still if (number(arm.cost("trained_parameters")) or 0) > 0]
    kept = [arm for arm in still if arm not in apart]
    said = []
    if kept:
        names = listed([arm.name for arm in kept])
        said.append(f"Weights unchanged, so nothing can be forgotten: {names}.")
    if apart:
        names = listed([arm.name for arm in apart])
        said.append(
            f"The language model is untouched; what is trained gives labels alone: {names}."
        )
    return Forgotten(
        plot=_plot(evidence, measured),
        table=Table("General ability lost by training", heads, tuple(lines)) if lines else None,
        areas=_areas(measured),
        unchanged=" ".join(said),
    )


def _held(arm: Arm, key: str) -> JSON:
    return mapping(mapping(arm.result.get("forgetting")).get(key))


def _line(evidence: Evidence, arm: Arm, read: bool) -> Line:
    found = mapping(arm.result.get("forgetting"))
    if not found:
        empty = [Cell(DASH)] * (2 if read else 1)
        return line_of(evidence, arm, Cell("not measured"), *empty)
    ends, drop = pair(found.get("interval")), number(found.get("drop"))
    return line_of(
        evidence,
        arm,
        Cell(DASH if drop is None else plain(drop * 100)),
        Cell(f"{plain(ends[0] * 100)} to {plain(ends[1] * 100)}" if ends else DASH),
        *([_bits(_held(arm, "bits_per_byte"))] if read else []),
    )


def _plot(evidence: Evidence, arms: list[Arm]) -> Markup:
    known = [(arm, number(mapping(arm.result.get("forgetting")).get("drop"))) for arm in arms]
    dots = [
        Dot(
            arm.name,
            drop,
            pair(mapping(arm.result.get("forgetting")).get("interval")),
            tag_of(evidence, arm),
            is_recommended(evidence, arm),
        )
        for arm, drop in known
        if drop is not None
    ]
    allowed = number(mapping(evidence.task.get("success")).get("max_forgetting"))
    scale = _Points()
    said = "; ".join(
        f"{dot.name} {scale.show(dot.value)} points ({scale.interval(dot.interval)})"
        for dot in dots
    )
    return dot_and_whisker(
        dots,
        scale,
        title="Points of general ability lost by each arm, with 95 % intervals",
        description=f"{said}.",
        identifier="plot-forgetting",
        limit=allowed,
        limit_label=f"allowed: {scale.tick(allowed)} points" if allowed is not None else "",
        zero=True,
    )


def _areas(arms: list[Arm]) -> Table | None:
    areas: dict[str, None] = {}
    for arm in arms:
        areas.update(dict.fromkeys(_held(arm, "probes")))
    if not areas:
        return None
    lines = []
    for area in areas:
        asked = [number(mapping(_held(arm, "probes").get(area)).get("n")) for arm in arms]
        most = max((n for n in asked if n is not None), default=None)
        note = plural(int(most), "question") if most is not None else ""
        cells = tuple(_probe(mapping(_held(arm, "probes").get(area))) for arm in arms)
        lines.append(Line(words(text(area)), False, note, cells))
    heads = tuple(arm.name for arm in arms)
    return Table("Accuracy before → after training, by area", heads, tuple(lines), first="Area")


def _bits(found: JSON) -> Cell:
    """Bits per byte before -> after, and the interval of the change."""
    before, after = number(found.get("before")), number(found.get("after"))
    if before is None or after is None:
        return Cell(DASH)
    ends = pair(found.get("interval"))
    sub = (
        f"change {plain(ends[0], 3, signed=True)} to {plain(ends[1], 3, signed=True)}"
        if ends
        else ""
    )
    return Cell(f"{before:.3f} → {after:.3f}", sub)


def _unchanged(arm: Arm) -> bool:
    """Whether the arm says that it leaves the language model as it was."""
    said = arm.result.get("changes_weights", arm.record.get("changes_weights"))
    return said is False or number(arm.cost("trained_parameters")) == 0


def _probe(probe: JSON) -> Cell:
    before, after = number(probe.get("before")), number(probe.get("after"))
    if before is None and after is None:
        return Cell(DASH)
    ends = pair(probe.get("interval"))
    sub = f"drop {plain(100 * ends[0])} to {plain(100 * ends[1])} points" if ends else ""
    return Cell(f"{percent(before)} → {percent(after)}", sub)
