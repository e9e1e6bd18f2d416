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
