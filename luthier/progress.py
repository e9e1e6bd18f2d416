"""How long work tells what it is doing. The command line draws it; a library call stays silent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

#: Items between two signs of life where there are many small ones: drawing costs more than they do.
_EVERY = 256


class Bar:
    """One piece of work with a known size."""

    def advance(self, amount: float = 1) -> None:
        """So much more is done."""

    def note(self, text: str) -> None:
        """A few words beside the bar (the loss, a rate)."""


class Reporter:
    """Receives what happens. This one drops everything; `cli` draws, `run` writes events."""

    @contextlib.contextmanager
    def work(self, what: str, total: float) -> Iterator[Bar]:
        """A piece of work of `total` units is under way."""
        del what, total
        yield Bar()

    def say(self, text: str) -> None:
        """A sentence for people."""

    def event(self, kind: str, **values: object) -> None:
        """A fact for the run's events.jsonl."""


class Within(Reporter):
    """Work inside other work, of which only one can have a bar: told beside that one's.

    Args:
        bar: of the outer work.
        name: what is said before.
    """

    def __init__(self, bar: Bar, name: str) -> None:
        self._bar, self._name = bar, name

    @contextlib.contextmanager
    def work(self, what: str, total: float) -> Iterator[Bar]:
        """Told in percent beside the outer bar."""
        yield _Inside(self._bar, f"{self._name}: {what}", total)
        self._bar.note(self._name)


class _Inside(Bar):
    def __init__(self, bar: Bar, what: str, total: float) -> None:
        self._bar, self._what, self._total = bar, what, total
        self._done = 0.0
        self.note("")

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        self.note("")

    def note(self, text: str) -> None:
        share = f"{min(100, 100 * self._done / max(self._total, 1e-9)):.0f} %"
        self._bar.note(f"{self._what} {share}{f' {text}' if text else ''}")


def tracked(items: Iterable[T], bar: Bar) -> Iterator[T]:
    """The items one after another; the bar hears of them now and then, and of all at the end."""
    done = 0
    for item in items:
        yield item
        done += 1
        if done == _EVERY:
            bar.advance(done)
            done = 0
    if done:
        bar.advance(done)


def tracked_work(reporter: Reporter, what: str, total: float, items: Iterable[T]) -> Iterator[T]:
    """The items one after another, as a piece of work that begins with the first and is over with
    the last, whatever is done with them."""
    with reporter.work(what, total) as bar:
        yield from tracked(items, bar)
