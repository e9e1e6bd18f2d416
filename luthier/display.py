"""What the terminal shows: one progress display while something is under way, tables at the end.

Progress goes to standard error, so that standard output holds results alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
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

if TYPE_CHECKING:
    from luthier.training.range_test import RangeTest
    from luthier.training.stage import StageResult


class _Drawn(Bar):
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: float = 1) -> None:
        self._progress.advance(self._task, amount)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)


#: Seconds between two lines where there is no terminal.
_EVERY = 30.0


class _Written(Bar):
    """Where there is no terminal to draw on (a log file, a pipe): a line now and then.

    Nothing is written of work that is soon done; then a line every half minute, with how much is
    done, what is said of it, and the time that is left at the pace so far.
    """

    def __init__(self, what: str, total: float) -> None:
        self._what, self._total = what, total
        self._done, self._note = 0.0, ""
        self._started = self._last = time.monotonic()
        self._spoke = False

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last < _EVERY or self._done >= self._total:
            return
        self._last, self._spoke = now, True
        left = (now - self._started) * (self._total - self._done) / max(self._done, 1e-9)
        share = f"{self._done / self._total:.0%}"
        parts = [f"{self._what}: {share}", self._note, f"{_clock(left)} left"]
        err.print(Text(" | ".join(part for part in parts if part)), soft_wrap=True)

    def note(self, text: str) -> None:
        self._note = text

    def finished(self) -> None:
        """The work is done; said only where something was said before."""
        if self._spoke:
            took = _clock(time.monotonic() - self._started)
            parts = [f"{self._what}: done in {took}", self._note]
            err.print(Text(" | ".join(part for part in parts if part)), soft_wrap=True)


def _clock(seconds: float) -> str:
    """1:02:05, or 2:05."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


class _TwoLines(Progress):
    """The bar on one line, and what is said of it on the next: together they would not fit into
    the usual eighty columns, and a line that wraps jumps."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if note := task.fields["note"]:
                yield Text(f"  {note}", style="dim", no_wrap=True, overflow="ellipsis")


class Display(Reporter):
    """Draws one bar at a time, and says a line when a piece of work is done."""

    @contextlib.contextmanager
    def work(self, what: str, total: float) -> Iterator[Bar]:
        """A bar with the time it took and the time it will take."""
        if not err.is_terminal:
            written = _Written(what, total)
            yield written
            written.finished()
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        drawn = _TwoLines(*columns, console=err, transient=True, refresh_per_second=4)
        with drawn as progress:
            yield _Drawn(progress, progress.add_task(what, total=total, note=""))

    def say(self, text: str) -> None:
        """One line."""
        err.print(Text(text), soft_wrap=True)


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
    if curve := held.get("learning_curve"):
        out.print(Text(f"- {curve['said']}"), soft_wrap=True)
    for one in held.get("no_learning_curve", ()):
        out.print(Text(f"- {one['said']}"), soft_wrap=True)


def models_table(rows: Sequence[dict[str, Any]]) -> None:
    """The catalogue: what each model is, whether it is here, and what fits this machine."""
    from luthier.verdict.formatting import compact

    table = Table(box=None, pad_edge=False, header_style="dim")
    # the name is what has to be typed: whatever else wraps, it does not
    table.add_column("model", no_wrap=True)
    for column in ("kind", "parameters", "context", "licence", "cached", "fits"):
        table.add_column(column, justify="right" if column in ("parameters", "context") else "left")
    for row in rows:
        uses = [use for use in ("prompt", "lora", "full") if row["fits"][use]]
        table.add_row(
            row["name"],
            row["kind"],
            compact(row["parameters"]),
            f"{row['context_length']:,}",
            row["licence"],
            "yes" if row["path"] else "no",
            ", ".join(uses) or "nothing",
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


def stage(result: StageResult, folder: Path) -> None:
    """What a training stage came to: a few answers before and after, notes, and its numbers."""
    before_and_after(folder)
    for note in result.notes:
        out.print(Text(note), soft_wrap=True)
    out.print(
        Text(
            f"{result.method}: {result.steps} steps, {result.tokens:,} tokens in "
            f"{result.seconds:.0f} s ({result.tokens_per_second:.0f} tokens/s), "
            f"final loss {result.final_loss:.3f}\n"
            f"{result.trained_parameters:,} of {result.total_parameters:,} parameters trained "
            f"({result.trained_fraction:.2%})"
        ),
        soft_wrap=True,
    )


def before_and_after(folder: Path) -> None:
    """What a few questions were answered before and after a training stage, from its folder."""
    from luthier.errors import InputError
    from luthier.files import read_json
    from luthier.training.samples_file import SAMPLES, in_words

    try:
        held = read_json(folder / SAMPLES)
    except InputError:
        return
    if held["rows"]:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("question", "reference", "before", "after"):
            table.add_column(column, overflow="ellipsis", max_width=34)
        for row in held["rows"]:
            style = "bold" if row["changed"] else "dim"
            table.add_row(
                Text(_one_line(row["input"])),
                Text(_one_line(row["reference"])),
                Text(_one_line(row["before"], row["before_cut"])),
                Text(_one_line(row["after"], row["after_cut"]), style=style),
            )
        out.print(table)
    out.print(Text(in_words(held), style="dim"), soft_wrap=True)
    out.print()


def _one_line(text: str, cut: bool = False, longest: int = 70) -> str:
    """A text on one line, shortened; "…" where something is missing at its end."""
    flat = " ".join(text.split())
    short = flat[:longest].rstrip()
    return (short + " …" if cut or len(flat) > longest else short) or "(empty)"


def range_test(found: RangeTest) -> None:
    """A learning-rate range test: the smoothed loss over the rate, and what follows from it."""
    lowest, highest = min(found.smoothed), max(found.smoothed)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("rate", justify="right")
    table.add_column("loss", justify="right")
    table.add_column("")
    marks = {found.steepest: "steepest fall", found.minimum: "lowest"}
    shown = {round(i * (len(found.rates) - 1) / 14) for i in range(15)}
    for index, (rate, loss) in enumerate(zip(found.rates, found.smoothed, strict=True)):
        if index not in shown and rate not in (found.steepest, found.minimum):
            continue
        share = (loss - lowest) / (highest - lowest) if highest > lowest else 0.0
        bar = Text("█" * round(1 + 23 * share), style="cyan")
        bar.append(f"  {marks[rate]}" if rate in marks else "", style="bold")
        table.add_row(f"{rate:.1e}", f"{loss:.3f}", bar)
    out.print(table)
    out.print()
    for note in found.notes:
        out.print(Text(note), soft_wrap=True)
    if found.suggested is not None and found.steepest and found.minimum:
        out.print(
            Text(
                f"Suggested for {found.method}: training.learning_rate: {found.suggested:.1e}",
                style="bold",
            ),
            soft_wrap=True,
        )
        out.print(
            Text(
                f"The loss falls fastest at {found.steepest:.1e}; a tenth of the rate where it is "
                f"lowest is {found.minimum / 10:.1e}; the lower of the two is suggested. Without "
                f"being told, the stage would use {found.default:.1e}.",
                style="dim",
            ),
            soft_wrap=True,
        )


def matrix(held: dict[str, Any]) -> None:
    """What each stage did to every task: rows are stages, columns tests, and the sums of it."""
    from luthier.verdict.formatting import percent

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("after stage")
    for column in held["columns"]:
        table.add_column(f"{column['name']} ({column['metric']})", justify="right")
    for row, scores, intervals in zip(held["rows"], held["scores"], held["intervals"], strict=True):
        cells = [
            f"{percent(score)} ({' to '.join(f'{100 * end:.0f}' for end in interval)})"
            for score, interval in zip(scores or (), intervals or (), strict=True)
        ]
        name = "untuned" if row == "base" else row
        table.add_row(name, *(cells or ["not yet"] * len(held["columns"])))
    chances = [percent(column["chance"]) for column in held["columns"]]
    table.add_row(Text("chance", style="dim"), *chances)
    out.print(table)
    out.print()
    for one in (held.get("summary") or {}).values():
        low, high = one["interval"]
        out.print(
            Text(f"{one['formula']} = {one['value']:+.3f} (95 %: {low:+.3f} to {high:+.3f})"),
            soft_wrap=True,
        )
