"""The page of several runs: one self-contained HTML file, like the report of a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from luthier import __version__
from luthier.across.comparing import Across, Compared
from luthier.across.differences import measured_elsewhere, probed_otherwise
from luthier.across.sides import Side
from luthier.across.tables import cost_table, forgetting_table
from luthier.files import write_text
from luthier.verdict.document import each_once
from luthier.verdict.evidence import mapping, text, texts
from luthier.verdict.formatting import (
    DASH,
    Scale,
    clip,
    count,
    number,
    p_value,
    pair,
    words,
)
from luthier.verdict.pages import asset, environment, policy
from luthier.verdict.pairs import LISTED, PairOf, pair_table
from luthier.verdict.plots import Dot, dot_and_whisker
from luthier.verdict.views import Cell, Line, Table, ranked, tag_of

_HERE = Path(__file__).parent
#: Characters of a setting that are shown.
_SETTING = 300


@dataclass(frozen=True)
class Block:
    """The scores of one group of runs, or of one run that is compared with none.

    Attributes:
        head: what stands above.
        lead: what is compared, in a sentence.
        plot: scores and intervals.
        scores: the same as a table.
        same: each arm that several of the runs have.
        between, within: pairs of arms of two runs, and of one.
        method: how intervals and p-values were computed.
        failed: (arm and run, reason) of those without a score.
    """

    head: str
    lead: str
    plot: Markup
    scores: Table
    same: Table | None
    between: Table | None
    within: Table | None
    method: str
    failed: tuple[tuple[str, str], ...]


def write_page(across: Across, path: Path) -> Path:
    """Write the page, whole or not at all, and return its path.

    Raises:
        RunError: it may not be written, or the disk is full.
    """
    write_text(path, render(across))
    return path


def render(across: Across) -> str:
    """The page as text."""
    style, script = asset("report.css"), asset("report.js")
    sides = across.sides
    folders = [shlex.quote(str(side.run.folder)) for side in sides]
    return (
        environment(_HERE)
        .get_template("page.html.jinja")
        .render(
            policy=policy(style, script),
            style=Markup(style),
            script=Markup(script),
            headline=across.headline,
            comparable=not across.plan.alone,
            reasons=across.reasons,
            notes=across.notes,
            warnings=[(s.name, said) for s in sides for said in texts(_warnings(s))],
            runs=_runs(sides),
            differences=_differences(across),
            blocks=_blocks(across),
            costs=cost_table(sides),
            elsewhere=measured_elsewhere(sides),
            forgetting=forgetting_table(sides),
            otherwise=probed_otherwise(sides),
            commands=[
                ("Make this page again", f"luthier compare {' '.join(folders)}"),
                *(
                    (f"Run {side.name} again", text(side.manifest.get("command")))
                    for side in sides
                    if side.manifest.get("command")
                ),
            ],
            luthier=__version__,
        )
    )


def _warnings(side: Side) -> object:
    return side.evidence.verdict.get("warnings")


def _runs(sides: Sequence[Side]) -> Table:
    lines = []
    for side in sides:
        verdict = side.evidence.verdict
        model = mapping(side.manifest.get("model"))
        lines.append(
            Line(
                side.name,
                False,
                "",
                (
                    Cell(text(model.get("name")) or side.task.model),
                    Cell(count(len(side.evidence.splits["train"]))),
                    Cell(count(len(side.test))),
                    Cell(text(verdict.get("headline")) or DASH),
                ),
            )
        )
    heads = ("Model", "Training rows", "Test rows", "Its own verdict")
    return Table("The runs", heads, tuple(lines), first="Run")


def _differences(across: Across) -> Table | None:
    if not across.differing:
        return None
    lines = [
        Line(
            one.what,
            False,
            "",
            tuple(Cell(_short(value)) for value in one.values),
        )
        for one in across.differing
    ]
    heads = tuple(side.name for side in across.sides)
    return Table("What is not the same in all runs", heads, tuple(lines), first="What")


def _short(value: str) -> str:
    shown, left = clip(value, _SETTING)
    return f"{shown} … ({left:,} characters more)" if left else shown


def _blocks(across: Across) -> list[Block]:
    blocks = [_compared(one, index) for index, one in enumerate(across.groups)]
    held = {side.name for one in across.groups for side in one.group.sides}
    alone = [side for side in across.sides if side.name not in held]
    return blocks + [_by_itself(side, index) for index, side in enumerate(alone)]


def _compared(one: Compared, index: int) -> Block:
    held, group = one.comparison, one.group
    arms = [arm for arm in held.arms if arm.score is not None]
    arms.sort(key=lambda arm: -(arm.score or 0.0))
    scale = Scale([value for arm in arms for value in (arm.score or 0.0, *(arm.interval or ()))])
    metric = words(held.metric.name)
    names = ", ".join(side.name for side in group.sides)
    dots, lines = [], []
    for arm in arms:
        who = one.entrants[arm.name]
        best = arm.name == held.best
        dots.append(Dot(who.arm, arm.score or 0.0, arm.interval, who.side.name, best))
        gap, p = Cell("the best"), DASH
        if held.best and not best:
            found = held.pairs[arm.name, held.best]
            gap = Cell(
                scale.difference(found.difference), scale.difference_interval(found.interval)
            )
            p = p_value(held.adjusted[arm.name, held.best])
        cells = (Cell(scale.show(arm.score)), Cell(scale.interval(arm.interval)), gap, Cell(p))
        lines.append(Line(who.arm, best, who.side.name, cells))
    said = "; ".join(f"{d.name} of {d.note} {scale.show(d.value)}" for d in dots)
    rows = (
        f"the same {group.n:,} test rows"
        if group.whole
        else f"the {group.n:,} test rows that all of them have"
    )
    between, within = _pair_tables(one, scale)
    points = f", {scale.points}" if scale.points else ""
    return Block(
        head=f"Scores of {names}" if index else "Scores",
        lead=f"{metric[:1].upper()}{metric[1:]} of each arm of {names} on {rows}. The line through "
        "a dot is its 95 % interval.",
        plot=dot_and_whisker(
            dots,
            scale,
            title=f"{metric} of each arm of each run with its 95 % interval",
            description=f"{said}.",
            identifier=f"plot-group-{index}",
        ),
        scores=Table(
            "Scores, and how each differs from the best of all runs",
            (
                metric[:1].upper() + metric[1:],
                "95 % interval",
                f"Against the best{points}",
                "p, Holm-adjusted",
            ),
            tuple(lines),
        ),
        same=_same(one, scale),
        between=between,
        within=within,
        method=_method(held.method, held.metric.signature()),
        failed=tuple((arm.name, arm.result.failed or "") for arm in held.arms if arm.score is None),
    )


def _method(method: str, signature: str) -> str:
    return f"{method[:1].upper()}{method[1:]}. Metric: {signature}."


def _same(one: Compared, scale: Scale) -> Table | None:
    """Each arm that more than one run has: its score in each, and the change from the first."""
    held, sides = one.comparison, one.group.sides
    names: dict[str, dict[str, str]] = {}
    for name, who in one.entrants.items():
        if held.arm(name).score is not None:
            names.setdefault(who.arm, {})[who.side.name] = name
    lines = []
    for arm, found in names.items():
        if len(found) < 2:
            continue
        first = next(iter(found.values()))
        cells = []
        for side in sides:
            if side.name not in found:
                cells.append(Cell(DASH))
                continue
            name = found[side.name]
            score = scale.show(held.arm(name).score)
            if name == first:
                cells.append(Cell(score))
                continue
            change = held.pairs[name, first]
            p = p_value(held.adjusted[name, first])
            cells.append(
                Cell(
                    score,
                    f"{scale.difference(change.difference)} "
                    f"({scale.difference_interval(change.interval)}), p {p}",
                )
            )
        lines.append(Line(arm, False, "", tuple(cells)))
    if not lines:
        return None
    return Table("The same arm in each run", tuple(side.name for side in sides), tuple(lines))


def _pair_tables(one: Compared, scale: Scale) -> tuple[Table | None, Table | None]:
    held = one.comparison
    parts: dict[bool, list[PairOf]] = {True: [], False: []}
    for found in each_once(held):
        sides = {one.entrants[name].side.name for name in (found.first, found.second)}
        parts[len(sides) > 1].append(
            PairOf(
                found.first,
                found.second,
                found.difference,
                found.interval,
                found.p,
                held.adjusted[found.first, found.second],
            )
        )
    left = len(parts[True]) - LISTED
    more = f"; {left:,} more with smaller differences" if left > 0 else ""
    return (
        pair_table(parts[True], scale, f"Arms of different runs{more}"),
        pair_table(parts[False], scale, "Arms of the same run"),
    )


def _by_itself(side: Side, index: int) -> Block:
    """A run whose numbers are compared with no other's: its own scores, from its own verdict."""
    arms = ranked(side.evidence)
    values = [number(arm.result.get("score")) or 0.0 for arm in arms]
    ends = [end for arm in arms for end in pair(arm.result.get("interval")) or ()]
    scale = Scale([*values, *ends])
    metric = words(side.metric.name)
    dots, lines = [], []
    for arm, value in zip(arms, values, strict=True):
        own = pair(arm.result.get("interval"))
        dots.append(Dot(arm.name, value, own, tag_of(side.evidence, arm)))
        cells = (Cell(scale.show(value)), Cell(scale.interval(own)))
        lines.append(Line(arm.name, False, tag_of(side.evidence, arm), cells))
    said = "; ".join(f"{dot.name} {scale.show(dot.value)}" for dot in dots)
    return Block(
        head=f"Scores of {side.name} alone",
        lead=f"{metric[:1].upper()}{metric[1:]} on its own {len(side.test):,} test rows. These "
        "numbers can't be compared with those of the other runs.",
        plot=dot_and_whisker(
            dots,
            scale,
            title=f"{metric} of each arm of {side.name} with its 95 % interval",
            description=f"{said}.",
            identifier=f"plot-alone-{index}",
        ),
        scores=Table(
            f"Scores of {side.name}",
            (metric[:1].upper() + metric[1:], "95 % interval"),
            tuple(lines),
        ),
        same=None,
        between=None,
        within=None,
        method="",
        failed=(),
    )
