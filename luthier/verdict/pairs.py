"""The table of every pair of arms: who differs from whom, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.evaluation.statistics import holm
from luthier.verdict.evidence import JSON, Evidence, dicts, mapping, text
from luthier.verdict.formatting import DASH, Scale, number, p_value, pair
from luthier.verdict.views import Cell, Line, Table

#: Below this adjusted p a difference is called one.
SIGNIFICANT = 0.05
#: Pairs that a table holds at most.
LISTED = 300


@dataclass(frozen=True)
class PairOf:
    """One pair: the difference `first` - `second`, as a comparison found it."""

    first: str
    second: str
    difference: float
    interval: Any
    p: Any
    p_adjusted: Any

    def better_first(self) -> PairOf:
        """The same pair with what scores higher in front."""
        if self.difference >= 0:
            return self
        ends = pair(self.interval)
        return PairOf(
            self.second,
            self.first,
            -self.difference,
            (-ends[1], -ends[0]) if ends else None,
            self.p,
            self.p_adjusted,
        )


def pairs_of(verdict: JSON) -> list[PairOf]:
    """The pairs of a verdict.json; those of an older one are adjusted here, as Holm's correction
    needs nothing but their p-values."""
    held = []
    for item in dicts(verdict.get("pairs")):
        names = item.get("arms")
        gap = number(item.get("difference"))
        if not isinstance(names, list) or len(names) != 2 or gap is None:
            continue
        first, second = map(text, names)
        held.append((first, second, gap, item))
    known = [number(item.get("p")) for *_, item in held]
    adjusted: Sequence[float | None] = [number(item.get("p_adjusted")) for *_, item in held]
    if None in adjusted and None not in known:
        adjusted = holm([p for p in known if p is not None])
    return [
        PairOf(first, second, gap, item.get("interval"), item.get("p"), p)
        for (first, second, gap, item), p in zip(held, adjusted, strict=True)
    ]


def pair_table(pairs: Sequence[PairOf], scale: Scale, caption: str) -> Table | None:
    """The pairs, the better arm first and the widest difference on top; None for none."""
    if not pairs:
        return None
    turned = sorted((one.better_first() for one in pairs), key=lambda one: -one.difference)
    points = f", {scale.points}" if scale.points else ""
    return Table(
        caption=caption,
        heads=(f"Difference{points}", "95 % interval", "p", "p, Holm-adjusted", "Says"),
        lines=tuple(_line(one, scale) for one in turned[:LISTED]),
        first="Pair",
    )


def report_pairs(evidence: Evidence, scale: Scale) -> Table | None:
    """The table of a run's report; None for fewer than two arms."""
    pairs = pairs_of(mapping(evidence.verdict))
    return pair_table(pairs, scale, "Every arm against every other, on the same test rows")


def _line(one: PairOf, scale: Scale) -> Line:
    p = number(one.p_adjusted)
    said = DASH if p is None else "better" if p < SIGNIFICANT else "no difference shown"
    return Line(
        name=f"{one.first} against {one.second}",
        marked=False,
        tag="",
        cells=(
            Cell(scale.difference(one.difference)),
            Cell(scale.difference_interval(one.interval) or DASH),
            Cell(p_value(one.p)),
            Cell(p_value(one.p_adjusted)),
            Cell(said),
        ),
    )
