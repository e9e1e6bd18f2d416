"""What the terminal shows: one progress display while something is under way, tables at the end.

Progress goes to standard error, so that standard output holds results alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from luthier.progress import Bar, Reporter

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_MARKS = {"error": "red", "warning": "yellow", "note": "cyan"}


class _Drawn(Bar):
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: float = 1) -> None:
        self._progress.advance(self._task, amount)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)


class Display(Reporter):
    """Draws one bar at a time, and says a line when a piece of work is done."""

    @contextlib.contextmanager
    def work(self, what: str, total: float) -> Iterator[Bar]:
        """A bar with the time it took and the time it will take."""
        if not err.is_terminal:
            yield Bar()
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        with Progress(*columns, console=err, transient=True) as progress:
            yield _Drawn(progress, progress.add_task(what, total=total, note=""))

    def say(self, text: str) -> None:
        """One line."""
        err.print(Text(text), soft_wrap=True)


def findings(found: Sequence[dict[str, Any]]) -> None:
    """Data findings, the serious ones first, on standard error."""
    for finding in found:
        line = Text()
        line.append(finding["severity"], style=_MARKS.get(finding["severity"], ""))
        line.append(f"  {finding['lint']}: {finding['message']}")
        err.print(line, soft_wrap=True)
        if finding["fix"]:
            err.print(Text(f"         {finding['fix']}", style="dim"), soft_wrap=True)
        if finding["rows"]:
            shown = ", ".join(finding["rows"][:5])
            more = f" and {finding['count'] - 5} more" if finding["count"] > 5 else ""
            err.print(Text(f"         rows: {shown}{more}", style="dim"), soft_wrap=True)


def verdict(held: dict[str, Any]) -> None:
    """The answer, the table of arms and the reasons."""
    from luthier.verdict.formatting import percent, seconds

    out.print()
    out.print(Text(held["headline"], style="bold"), soft_wrap=True)
    out.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("arm")
    for column in (held["metric"], "95 % interval", "invalid", "training", "per answer"):
        table.add_column(column, justify="right")
    arms = sorted(held["arms"], key=lambda a: -1 if a["score"] is None else -a["score"])
    for arm in sorted(arms, key=lambda a: a["score"] is None):
        chosen = arm["name"] == held["recommendation"]
        name = Text(arm["name"], style="bold" if chosen else "")
        if arm["failed"]:
            table.add_row(name, "failed", Text(arm["failed"], overflow="fold"))
            continue
        table.add_row(
            name,
            percent(arm["score"]),
            " to ".join(percent(end) for end in arm["interval"]),
            percent(arm["invalid_rate"]),
            seconds(arm["train_seconds"]) if arm["train_seconds"] else "",
            seconds(arm["seconds_per_answer"]),
        )
    out.print(table)
    out.print()
    for reason in held["reasons"]:
        out.print(Text(f"- {reason}"), soft_wrap=True)


def sample(spans: Sequence[tuple[str, bool]]) -> None:
    """A training example as the model sees it: what is trained stands out."""
    text = Text()
    for span, trained in spans:
        text.append(span, style="bold green" if trained else "dim")
    err.print(Text("First training example, what is trained in bold green:", style="dim"))
    err.print(text, soft_wrap=True)
    err.print()


def models_table(rows: Sequence[dict[str, Any]]) -> None:
    """The catalogue: what each model is, whether it is here, and what fits this machine."""
    from luthier.verdict.formatting import compact

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("model", "kind", "parameters", "context", "licence", "cached", "fits"):
        table.add_column(column, justify="right" if column in ("parameters", "context") else "left")
    for row in rows:
        fits = [use for use, fit in row["fits"].items() if (fit["fits"] if fit else False)]
        table.add_row(
            row["name"],
            row["kind"],
            compact(row["parameters"]),
            f"{row['context']:,}",
            row["licence"],
            "yes" if row["path"] else "no",
            ", ".join(fits) or "nothing",
        )
    out.print(table)
    out.print()
    out.print(
        Text(
            "A model is fetched when it is first used. Any Hugging Face folder or hub id works "
            "too: model: path/to/folder, or model: owner/name.",
            style="dim",
        ),
        soft_wrap=True,
    )
