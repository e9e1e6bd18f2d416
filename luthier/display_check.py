"""What `luthier check` shows: the answer first, then the findings, then the numbers.

Texts of the data are shown with their control characters as pictures, so that nothing in a row
can move the cursor or colour the terminal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from luthier.data.fixing import Fixed
from luthier.data.linting import COMBINED
from luthier.data.lints.unfit import SIGNS
from luthier.data.mixtures import SourceUse
from luthier.examine import Examined
from luthier.verdict.formatting import memory, percent, seconds

#: Columns that text is wrapped at.
WIDTH = 80
#: Characters of the sample that are shown, from its start and from its end.
_SHOWN = (1_500, 1_000)
#: Labels whose rows are listed.
_LABELS = 12
_MARKS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
#: Around what is trained, for whoever sees no colours.
OPEN, CLOSE = "⟦", "⟧"


def visible(text: str) -> str:
    """The text with control characters, and marks that turn the direction of writing, shown as
    pictures; new lines and tabs stay."""
    return "".join(_picture(c) for c in text)


def _picture(c: str) -> str:
    code = ord(c)
    if c in "\n\t" or 0x20 <= code < 0x7F:
        return c
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    hidden = 0x80 <= code < 0xA0 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    return f"\\u{code:04x}" if hidden or 0xD800 <= code < 0xE000 else c


def check(
    console: Console,
    examined: Examined,
    notes: Sequence[str],
    *,
    following: str,
    fixed: Fixed | None = None,
) -> None:
    """The whole of what a check found.

    Args:
        console: where to.
        notes: what was cut, left out or inferred as the data were prepared.
        following: the command to type next.
        fixed: what `--fix` did before.
    """
    answer(console, examined.answer, examined.ok)
    if fixed is not None:
        _fixed(console, fixed)
    findings(console, [finding.to_dict() for finding in examined.findings], skip=examined.answer)
    _notes(console, notes)
    _tokens(console, examined)
    _labels(console, examined.labels)
    _languages(console, examined.languages)
    _mixture(console, examined.mixture)
    _arms(console, examined)
    sample(console, examined.sample)
    console.print()
    console.print(Text(f"Next: {following}"), soft_wrap=True)


def warn(console: Console, examined: Examined) -> None:
    """What is shown before time is spent: the serious findings; nothing where there are none."""
    serious = [finding for finding in examined.findings if finding.severity != "note"]
    if not serious:
        return
    answer(console, examined.answer, examined.ok)
    findings(console, [finding.to_dict() for finding in serious], skip=examined.answer)
    console.print()


def answer(console: Console, said: str, ok: bool) -> None:
    """The first line. A judgement's evidence follows it, a sign on each line."""
    head, *signs = _signs(said)
    _wrapped(console, head, style="bold" if ok else "bold red")
    for sign in signs:
        _wrapped(console, sign, indent="  ")


def findings(
    console: Console, found: Iterable[dict[str, Any]], *, skip: str = "", rows: int = 5
) -> None:
    """Findings, the serious ones first, wrapped.

    Args:
        skip: a message that was said already; its fix and rows still are.
        rows: most rows named for one finding.
    """
    found = list(found)
    part = SIGNS if any(finding["lint"] == COMBINED for finding in found) else frozenset()
    for finding in found:
        if finding["lint"] in part:
            continue
        console.print()
        mark = Text(finding["severity"], style=_MARKS.get(finding["severity"], ""))
        can = "  --fix mends it" if finding.get("fixable") else ""
        mark.append(f"  {finding['lint'].replace('_', ' ')}{can}", style="dim")
        console.print(mark)
        if finding["message"] != skip:
            _wrapped(console, finding["message"], indent="  ")
        if finding["fix"]:
            _wrapped(console, f"Fix: {finding['fix']}", indent="  ", style="dim")
        if finding["rows"]:
            shown = ", ".join(finding["rows"][:rows])
            left = finding["count"] - len(finding["rows"][:rows])
            more = f" and {left:,} more" if left > 0 else ""
            _wrapped(console, f"Rows: {shown}{more}", indent="  ", style="dim")
    named = [
        f"{finding['lint'].replace('_', ' ')} ({finding['count']:,} rows)"
        for finding in found
        if finding["lint"] in part
    ]
    if named:
        console.print()
        _wrapped(console, f"Part of the judgement, in full with --json: {', '.join(named)}.")


def sample(console: Console, spans: Sequence[tuple[str, bool]]) -> None:
    """A training example as the model sees it: what is trained stands out, in brackets too."""
    if not spans:
        return
    console.print()
    lead = f"The first training row as the model sees it; {OPEN}between these{CLOSE} it is trained:"
    console.print(Text(lead, style="dim"))
    text = Text()
    for span, trained in spans:
        if trained:
            text.append(OPEN, style="green")
            text.append(visible(span), style="bold green")
            text.append(CLOSE, style="green")
        else:
            text.append(visible(span))
    first, last = _SHOWN
    if len(text) > first + last + 100:
        left = len(text) - first - last
        gap = Text(f"\n… {left:,} characters are left out here …\n", style="dim")
        text = text[:first] + gap + text[-last:]
    for line in text.split("\n"):
        console.print(Text("  ") + line, soft_wrap=True)


def _signs(said: str) -> list[str]:
    """A judgement cut before each "(1)", "(2)", ..."""
    parts, number = [], 1
    while (at := said.find(f" ({number}) ")) >= 0:
        parts.append(said[:at])
        said = said[at + 1 :]
        number += 1
    return [*parts, said]


def _fixed(console: Console, fixed: Fixed) -> None:
    done = ", ".join(
        f"{count:,} {what} ({lint.replace('_', ' ')})"
        for (what, lint), count in sorted(fixed.counts.items())
    )
    console.print()
    _wrapped(
        console,
        f"Fixed: {fixed.path} has {fixed.written:,} of {fixed.read:,} rows; {done or 'no change'}. "
        f"Every change is in {fixed.log}. What follows is about the new file.",
    )


def _notes(console: Console, notes: Sequence[str]) -> None:
    if notes:
        console.print()
    for note in notes:
        _wrapped(console, note, style="dim")


def _tokens(console: Console, examined: Examined) -> None:
    table = _table("tokens", "rows", "total", "median", "longest", "too long")
    for name, sizes in examined.tokens.items():
        estimated = "~" if sizes["sampled"] < sizes["rows"] else ""
        table.add_row(
            name,
            f"{sizes['rows']:,}",
            f"{estimated}{sizes['total']:,}",
            f"{sizes['median']:,}",
            f"{sizes['longest']:,}",
            f"{sizes['overlong']:,}" if sizes["overlong"] else "none",
        )
    console.print()
    console.print(table)
    if any(sizes["sampled"] < sizes["rows"] for sizes in examined.tokens.values()):
        console.print(Text("~ counted in a sample of the rows.", style="dim"))


def _labels(console: Console, labels: dict[str, dict[str, int]]) -> None:
    if not labels:
        return
    names = list(dict.fromkeys(label for counts in labels.values() for label in counts))
    table = _table("labels", *labels)
    for label in names[:_LABELS]:
        cells = []
        for counts in labels.values():
            total, count = sum(counts.values()), counts.get(label, 0)
            cells.append(f"{count:,} {percent(count / total, 0):>5}" if total else "")
        table.add_row(Text(visible(label).replace("\n", " "), overflow="ellipsis"), *cells)
    console.print()
    console.print(table)
    if len(names) > _LABELS:
        console.print(Text(f"and {len(names) - _LABELS:,} labels with fewer rows", style="dim"))


def _languages(console: Console, mixes: dict[str, dict[str, float]]) -> None:
    if not mixes:
        return
    said = []
    for part, shares in mixes.items():
        listed = ", ".join(f"{code} {percent(share)}" for code, share in list(shares.items())[:5])
        others = len(shares) - 5
        said.append(f"{part}: {listed}" + (f" and {others} more" if others > 0 else ""))
    console.print()
    _wrapped(console, "Languages of the training rows: " + "; ".join(said) + ".")


def _mixture(console: Console, mixture: Sequence[SourceUse]) -> None:
    if not mixture:
        return
    table = _table("task of the mixture", "rows", "share", "draws", "each row", "tokens drawn")
    for use in mixture:
        tokens = "" if use.drawn_tokens is None else f"{use.drawn_tokens:,}"
        share, each = percent(use.share), f"{use.epochs:.2f} times"
        table.add_row(use.name, f"{use.rows:,}", share, f"{use.draws:,}", each, tokens)
    console.print()
    console.print(table)


def _arms(console: Console, examined: Examined) -> None:
    if not examined.arms:
        return
    table = _table("arm", "time here, at least", "memory", "fits")
    for arm in examined.arms:
        fits = {True: "yes", False: "NO", None: ""}[arm["fits"]]
        table.add_row(arm["name"], seconds(arm["seconds"]), memory(arm["peak_memory_bytes"]), fits)
    console.print()
    console.print(table)
    needed, budget = sum(arm["seconds"] for arm in examined.arms), 60 * examined.budget_minutes
    if needed > budget:
        _wrapped(
            console,
            f"Together {seconds(needed)}, and the budget is {seconds(budget)}. Arms that are named "
            "are run all the same; of `arms: auto` those that do not fit are left out.",
        )


def _table(first: str, *rest: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first)
    for column in rest:
        table.add_column(column, justify="right")
    return table


def _wrapped(console: Console, text: str, *, indent: str = "", style: str = "") -> None:
    # paths and row names are not broken, so that they can be copied
    flat = " ".join(visible(text).split())
    lines = textwrap.wrap(
        flat, min(WIDTH, console.width) - len(indent), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    for line in lines:
        console.print(Text(f"{indent}{line}", style=style), soft_wrap=True)
