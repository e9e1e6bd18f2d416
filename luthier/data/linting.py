"""Lints: what can be wrong with data that is well formed.

A lint is one file in `lints/` that registers a function from a `LintContext` to findings. It says
why a thing matters and what to do, names rows, and stays quiet on clean data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from luthier.data.examples import Example, Splits
from luthier.registry import Registry
from luthier.task import Task

Severity = Literal["error", "warning", "note"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")

#: Most rows that a finding names.
MOST_ROWS = 20


@dataclass(frozen=True)
class Finding:
    """One thing a lint found.

    Attributes:
        lint: the lint's name.
        severity: "error" stops a check; a "warning" will probably cost quality or make a result
            mean less; a "note" is worth knowing.
        count: how many rows (or classes, where the message says so) it concerns.
        rows: where they were read, at most 20.
        message: what is wrong and why it matters.
        fix: what to do.
    """

    lint: str
    severity: Severity
    count: int
    rows: tuple[str, ...]
    message: str
    fix: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in lint.json."""
        return {
            "lint": self.lint,
            "severity": self.severity,
            "count": self.count,
            "rows": list(self.rows),
            "message": self.message,
            "fix": self.fix,
        }


@dataclass(frozen=True)
class LintContext:
    """What lints look at.

    Attributes:
        task: the task.
        splits: its examples.
        labels: the labels of a classification, else None.
        count_tokens: the (prompt, answer) tokens of an example as the model will see it, or None
            when no tokenizer is at hand; lints that need it then find nothing.
        context_length: how many tokens the model can take, or None when unknown.
    """

    task: Task
    splits: Splits
    labels: tuple[str, ...] | None = None
    count_tokens: Callable[[Example], tuple[int, int]] | None = None
    context_length: int | None = None

    @property
    def everything(self) -> tuple[Example, ...]:
        """The examples of all splits."""
        return (*self.splits.train, *self.splits.validation, *self.splits.test)


Lint = Callable[[LintContext], Iterable[Finding]]

LINTS: Registry[Lint] = Registry("lint", "luthier.data.lints")


def lint(context: LintContext) -> list[Finding]:
    """What all lints find, errors first, then warnings, then notes; within each by count."""
    findings = [finding for _, check in LINTS for finding in check(context)]
    return sorted(findings, key=lambda f: (_ORDER.index(f.severity), -f.count, f.lint))


def sources(examples: Iterable[Example]) -> tuple[str, ...]:
    """Where the first examples were read, as a finding's `rows`."""
    names: list[str] = []
    for example in examples:
        if len(names) == MOST_ROWS:
            break
        names.append(example.source or example.id)
    return tuple(names)


def number(count: int, thing: str) -> str:
    """A count and its noun: "1 row", "3 rows"."""
    if count == 1:
        return f"1 {thing}"
    return f"{count:,} {thing[:-1]}ies" if thing.endswith("y") else f"{count:,} {thing}s"


def percent(part: int, whole: int) -> str:
    """A share in words that never rounds something down to nothing."""
    share = 100 * part / whole
    return "under 1 %" if share < 1 else f"{share:.0f} %"


def shortened(text: str, most: int = 60) -> str:
    """A text on one line, cut for people."""
    line = " ".join(text.split())
    return f"{line[:most]}..." if len(line) > most else line


def texts_of(examples: Sequence[Example]) -> Iterable[tuple[Example, str, str]]:
    """(example, "input" or "output", text) of every text in the examples."""
    for example in examples:
        for message in example.messages:
            yield example, "input", message.content
        yield example, "output", example.output
