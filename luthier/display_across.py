"""What the terminal shows of a comparison of runs."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from luthier.across.comparing import Across, Compared
from luthier.display import out
from luthier.verdict.formatting import clip, p_value, percent
from luthier.verdict.wording import signed

#: Characters of a setting that are shown; the page shows more, and JSON all.
_LONGEST = 60


def show(across: Across) -> None:
    """The answer, what it rests on, and the arms of all runs that were compared."""
    out.print()
    out.print(Text(across.headline, style="bold"), soft_wrap=True)
    for one in across.groups:
        out.print()
        out.print(_arms(one))
    if across.differing:
        out.print()
        out.print(_differences(across))
    out.print()
    for reason in (*across.reasons, *across.notes):
        out.print(Text(f"- {reason}"), soft_wrap=True)


def _arms(one: Compared) -> Table:
    held = one.comparison
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("run")
    table.add_column("arm")
    for column in (held.metric.name, "95 % interval", "against the best", "p adjusted"):
        table.add_column(column, justify="right")
    for arm in sorted(held.arms, key=lambda arm: -1.0 if arm.score is None else -arm.score):
        who = one.entrants[arm.name]
        best = arm.name == held.best
        names = (who.side.name, Text(who.arm, style="bold" if best else ""))
        if arm.score is None or arm.interval is None:
            table.add_row(*names, "failed", Text(arm.result.failed or "", overflow="fold"))
            continue
        gap = p = ""
        if held.best and not best:
            gap = signed(held.pairs[arm.name, held.best].difference)
            p = p_value(held.adjusted[arm.name, held.best])
        interval = " to ".join(percent(end) for end in arm.interval)
        table.add_row(*names, percent(arm.score), interval, "the best" if best else gap, p)
    return table


def _differences(across: Across) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("what differs")
    for side in across.sides:
        table.add_column(side.name, overflow="fold")
    for one in across.differing:
        table.add_row(one.what, *(Text(_short(value), overflow="fold") for value in one.values))
    return table


def _short(value: str) -> str:
    shown, left_out = clip(value, _LONGEST)
    return f"{shown}..." if left_out else shown
