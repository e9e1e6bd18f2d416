"""Lints: what can be wrong with data that is well formed.

A lint is one file in `lints/` that registers a function from a `LintContext` to findings. It says
why a thing matters and what to do, names rows, and stays quiet on clean data.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar, cast

from luthier.data.examples import Example, Splits
from luthier.data.refused import Refused
from luthier.data.stored import Joined
from luthier.progress import Reporter, Within
from luthier.registry import Registry
from luthier.task import Task

T = TypeVar("T")

Severity = Literal["error", "warning", "note"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")

#: Most rows that a finding names.
MOST_ROWS = 20
#: Most rows that an expensive lint looks at, unless it says less.
SAMPLE = 20_000
#: Rows from which on shared measures are kept in the cache.
MANY = 10_000
#: The lint that weighs several others together; what it says comes before everything else.
COMBINED = "unfit"


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
        fixable: whether `luthier check --fix` does it (`fixing.py`).
    """

    lint: str
    severity: Severity
    count: int
    rows: tuple[str, ...]
    message: str
    fix: str
    fixable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in lint.json."""
        return {
            "lint": self.lint,
            "severity": self.severity,
            "count": self.count,
            "rows": list(self.rows),
            "message": self.message,
            "fix": self.fix,
            "fixable": self.fixable,
        }


@dataclass(frozen=True)
class Sample:
    """Some examples of a split, the same ones each time.

    Attributes:
        examples: in the order of the split.
        of: how many examples the split has.
    """

    examples: tuple[Example, ...]
    of: int

    @property
    def said(self) -> str:
        """What a message adds where not all rows were looked at: " in a sample of 20,000 rows"."""
        whole = len(self.examples) == self.of
        return "" if whole else f" in a sample of {len(self.examples):,} rows"


@dataclass(frozen=True)
class Rendered:
    """One training example as token ids.

    Attributes:
        ids: all of them.
        trained: for each, whether it is trained.
        starts: ids that begin a sequence; one may come first, and none may follow it.
        stops: ids that end an answer; the last trained id is one of them.
    """

    ids: Sequence[int]
    trained: Sequence[bool]
    starts: frozenset[int]
    stops: frozenset[int]


class Measures(Protocol):
    """Keeps arrays by name, from one check to the next."""

    def arrays(self, name: str) -> dict[str, Any] | None:
        """What was kept; None where there is nothing."""

    def keep_arrays(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Keep arrays."""


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
        render: an example as it will be trained, or None when no tokenizer is at hand.
        embed: unit vectors (n, d) of n texts by a sentence encoder, or None when none is at hand
            without a download.
        refused: the rows of the sources that were left out (`data.refused: skip`).
        reporter: hears of long work inside a lint.
        measures: keeps what several lints share from one check to the next; None to keep nothing.
    """

    task: Task
    splits: Splits
    labels: tuple[str, ...] | None = None
    count_tokens: Callable[[Example], tuple[int, int]] | None = None
    context_length: int | None = None
    render: Callable[[Example], Rendered] | None = None
    embed: Callable[[Sequence[str]], Any] | None = None
    refused: Refused = field(default_factory=Refused)
    reporter: Reporter = field(default_factory=Reporter, repr=False, compare=False)
    measures: Measures | None = field(default=None, repr=False, compare=False)
    _kept: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def everything(self) -> Sequence[Example]:
        """The examples of all splits."""
        return Joined(self.splits.train, self.splits.validation, self.splits.test)

    def sample(self, name: str, most: int = SAMPLE) -> Sample:
        """At most `most` examples of a split, drawn by the task's seed.

        A lint that costs much for each row works on this, and adds `said` to its message.
        """
        examples: Sequence[Example] = getattr(self.splits, name)
        if len(examples) <= most:
            return Sample(tuple(examples), len(examples))

        def draw() -> Sample:
            chance = random.Random(f"{self.task.seed}:lint:{name}")
            chosen = sorted(chance.sample(range(len(examples)), most))
            return Sample(tuple(examples[index] for index in chosen), len(examples))

        return self.once(("sample", name, most), draw)

    def kept_once(self, name: str, rows: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Arrays that several lints share, kept also for a check that comes after an interruption.

        Args:
            name: of the measure.
            rows: how many it is of; of few it is made again as fast as it is read.
            make: computes it.
        """

        def made() -> dict[str, Any]:
            measures = self.measures if rows >= MANY else None
            found = measures.arrays(name) if measures else None
            if found is None:
                found = make()
                if measures:
                    measures.keep_arrays(name, found)
            return found

        return self.once(("kept", name), made)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returns, computed the first time; lints that share a measure use this."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast("T", self._kept[key])


Lint = Callable[[LintContext], Iterable[Finding]]

LINTS: Registry[Lint] = Registry("lint", "luthier.data.lints")


class Keeps(Measures, Protocol):
    """Keeps what lints found, by name, from one check to the next."""

    def get(self, name: str) -> list[Finding] | None:
        """What a lint found before; None where it was not finished."""

    def put(self, name: str, findings: Sequence[Finding]) -> None:
        """Keep what a lint found."""


def lint(
    context: LintContext, reporter: Reporter | None = None, kept: Keeps | None = None
) -> list[Finding]:
    """What all lints find, errors first, then warnings, then notes; within each by count.

    What the combined judgement says comes before all.

    Args:
        context: what they look at.
        reporter: hears which lint is under way.
        kept: has what lints found that were finished before, and gets what others find.
    """
    reporter = reporter or Reporter()
    context = replace(context, measures=kept)
    found: list[Finding] = []
    lints = list(LINTS)
    earlier = {name: kept.get(name) for name, _ in lints} if kept else {}
    if done := sum(one is not None for one in earlier.values()):
        reporter.say(
            f"{done} of {len(lints)} lints were finished before, on the same data and settings; "
            "what they found is taken from the cache."
        )
    with reporter.work("checking the data", len(lints)) as bar:
        for name, check in lints:
            bar.note(name.replace("_", " "))
            findings = earlier.get(name)
            if findings is None:
                inside = Within(bar, name.replace("_", " "))
                findings = list(check(replace(context, reporter=inside)))
                if kept:
                    kept.put(name, findings)
            found += findings
            bar.advance()
    return sorted(
        found, key=lambda f: (_ORDER.index(f.severity), f.lint != COMBINED, -f.count, f.lint)
    )


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
