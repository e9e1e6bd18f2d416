"""Mixtures of sources that do not fit in memory: rows drawn from several streams.

Each source is read from its start to its end, again and again. Its rows pass through a buffer from
which one is taken at random (a shuffle buffer: a row can come as early as it is read, and is on
average as many draws late as the buffer holds). Whose turn it is, is decided as for mixtures in
memory (`mixtures.turns`): no source is ever a whole draw ahead of its share.

The order is a pure function of sources, shares, buffer and seed. A stream that was interrupted goes
on from the number of rows it gave: earlier rows are read again and left out, which needs no file of
its state and cannot disagree with one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from luthier.data.mixtures import turn_by_turn
from luthier.errors import InputError

T = TypeVar("T")

#: Rows of a shuffle buffer.
BUFFER = 10_000


@dataclass(frozen=True)
class StreamSource(Generic[T]):
    """One source of a mixture.

    Attributes:
        name: for messages and statistics.
        open: gives its rows from the first on, each time it is called.
        share: of the draws; all sources' add up to 1.
        most: the most rows of each pass that are used (the first ones); None for all.
    """

    name: str
    open: Callable[[], Iterable[T]]
    share: float
    most: int | None = None


@dataclass(frozen=True)
class Drawn(Generic[T]):
    """One row of a mixture.

    Attributes:
        row: as its source gave it.
        source: the source's name.
        epoch: how many times its source had been read to the end before.
    """

    row: T
    source: str
    epoch: int


def shuffled(rows: Iterable[T], buffer: int, seed: str) -> Iterator[T]:
    """The rows in an order that is random within about `buffer` rows; each comes once.

    Args:
        rows: in their own order.
        buffer: the most rows that are held at a time; 1 leaves the order as it is.
        seed: a text; the order depends on nothing else.
    """
    chance = random.Random(seed)  # a text seeds by its bytes, the same on every platform
    held: list[T] = []
    for row in rows:
        if len(held) < buffer:
            held.append(row)
            continue
        place = chance.randrange(buffer)
        held[place], row = row, held[place]
        yield row
    chance.shuffle(held)
    yield from held


def mixed(
    sources: Sequence[StreamSource[T]], *, seed: int, buffer: int = BUFFER, start: int = 0
) -> Iterator[Drawn[T]]:
    """Rows of all sources by their shares, without end.

    Args:
        sources: at least one, of different names.
        seed: of the orders.
        buffer: rows of each source that are held at a time.
        start: how many rows were drawn before; the stream goes on behind them.

    Raises:
        InputError: two sources of one name, shares that are no shares, or a source without rows.
    """
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise InputError("Two sources of a mixture have one name.", fix="Rename one of them.")
    shares = [source.share for source in sources]
    if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(
            f"The shares of a mixture are {shares}.", fix="Each is above 0, and they add up to 1."
        )
    streams = [_endless(source, buffer, seed) for source in sources]
    for step, turn in enumerate(turn_by_turn(shares), 1):
        row, epoch = next(streams[turn])
        if step > start:
            yield Drawn(row, names[turn], epoch)


def _endless(source: StreamSource[T], buffer: int, seed: int) -> Iterator[tuple[T, int]]:
    """(row, epoch) of a source, one pass after another, each in an order of its own."""
    epoch = 0
    while True:
        some = False
        rows = shuffled(_first(source), buffer, f"stream-{seed}-{source.name}-{epoch}")
        for row in rows:
            some = True
            yield row, epoch
        if not some:
            raise InputError(f"The source {source.name} of a mixture has no rows.")
        epoch += 1


def _first(source: StreamSource[T]) -> Iterator[T]:
    for number, row in enumerate(source.open()):
        if number == source.most:
            return
        yield row
