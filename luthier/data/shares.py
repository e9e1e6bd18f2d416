"""Choosing some of many rows: in an order anyone can reproduce, each class its share."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from luthier.data.column import Array, in_order, record, records
from luthier.data.examples import Example
from luthier.data.names import HashNames, Names
from luthier.data.numbered import Coded, coded

Places = npt.NDArray[np.int64]


def allocate(sizes: Mapping[str, int], total: int, least: int) -> dict[str, int]:
    """Share out `total` rows among classes in proportion to their sizes.

    Each class first gets `least` rows, or all it has (larger classes first where the total does
    not reach); the rest goes, row by row, to the class that is furthest below its exact share.

    Args:
        sizes: rows of each class.
        total: rows wanted; no more than there are.
        least: rows that each class gets at least.
    """
    everything = sum(sizes.values())
    shares = {name: total * size / everything for name, size in sizes.items()}
    given = dict.fromkeys(sizes, 0)
    free = min(total, everything)
    largest_first = sorted(sizes, key=lambda name: (-sizes[name], name))
    for _ in range(least):
        for name in largest_first:
            if free and given[name] < sizes[name]:
                given[name] += 1
                free -= 1
    queue = [(given[name] - shares[name], name) for name in sizes if given[name] < sizes[name]]
    heapq.heapify(queue)
    while free:
        over, name = heapq.heappop(queue)
        given[name] += 1
        free -= 1
        if given[name] < sizes[name]:
            heapq.heappush(queue, (over + 1, name))
    return given


def rank(salt: str, name: str) -> bytes:
    """A place in an order that looks random and is the same on any machine."""
    return hashlib.sha256(f"{salt}:{name}".encode()).digest()


def ranked(names: Sequence[str], salt: str) -> Places:
    """[names] their places in the order of `rank`; those of equal names in their own order."""
    # the first eight bytes decide, but for one pair of rows in 10^19
    first = (int.from_bytes(rank(salt, name)[:8], "big") for name in names)
    keys = np.fromiter(first, np.uint64, len(names))
    order: Places = np.argsort(keys, kind="stable")
    keys = keys[order]
    tied = np.flatnonzero(keys[1:] == keys[:-1])
    for start in tied[np.diff(tied, prepend=-2) > 1].tolist():
        stop = int(np.searchsorted(keys, keys[start], "right"))
        order[start:stop] = sorted(order[start:stop], key=lambda place: rank(salt, names[place]))
    return order


_RANKED = record(np.uint64, row=np.int32, named=np.int32)
_AT_ONCE = 4096


def in_rank(
    ids: HashNames | Names, lots: Iterable[tuple[Array, Array]], salt: str
) -> Iterator[Array]:
    """Rows in the order of `rank` of names, in lots; memory does not grow with them.

    Args:
        ids: unique names.
        lots: (rows, the row whose name counts for each) of some rows at a time.
        salt: what the order depends on besides.
    """

    def every() -> Iterator[Array]:
        for rows, named in lots:
            for first in range(0, len(rows), _AT_ONCE):
                some = slice(first, first + _AT_ONCE)
                # the first eight bytes decide, but for one pair of rows in 10^19
                keys = (int.from_bytes(rank(salt, name)[:8], "big") for name in ids.at(named[some]))
                key = np.fromiter(keys, np.uint64, len(rows[some]))
                yield records(_RANKED, key=key, row=rows[some], named=named[some])

    waiting = np.empty(0, _RANKED)  # those of the last key, of which more may come
    for lot in in_order(every()):
        lot = np.concatenate((waiting, lot))
        new = np.flatnonzero(np.diff(lot["key"], prepend=~lot["key"][:1]))
        lot, waiting = lot[: new[-1]], lot[new[-1] :]
        if len(new) < len(lot) + 1:
            _settle(lot, new[:-1], ids, salt)
        if len(lot):
            yield lot["row"]
    if len(waiting):
        _settle(waiting, np.zeros(1, np.int64), ids, salt)
        yield waiting["row"]


def _settle(lot: Array, starts: Places, ids: HashNames | Names, salt: str) -> None:
    """Put records of one key in the order of their whole ranks, in place."""
    sizes = np.diff(starts, append=len(lot))
    for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        tied = lot[start : start + size]
        ranks = [rank(salt, name) for name in ids.at(tied["named"])]
        tied[:] = tied[sorted(range(size), key=ranks.__getitem__)]


def sample(
    examples: Sequence[Example], size: int, stratify: bool, least: int, salt: str
) -> list[Example]:
    """`size` of the examples, in their order; with `stratify`, classes in proportion.

    Args:
        examples: no fewer than `size`.
        size: rows wanted.
        stratify: keep the shares of the outputs.
        least: rows of each output that are kept where there are as many; see `allocate`.
        salt: what the choice depends on besides the ids.
    """
    classes = coded(example.output for example in examples) if stratify else None
    kept = pick([example.id for example in examples], classes, size, least, salt)
    return [examples[place] for place in kept.tolist()]


def pick(ids: Sequence[str], classes: Coded | None, size: int, least: int, salt: str) -> Places:
    """Places of `size` of the rows with these ids, ascending; see `sample`.

    Args:
        ids: of the rows, no fewer than `size`.
        classes: of the rows, whose shares are kept; or None.
        size, least, salt: as for `sample`.
    """
    order = ranked(ids, salt)
    if classes is None:
        return np.sort(order[:size])
    share = allocate(classes.counts(), size, least)
    free = np.array([share.get(name, 0) for name in classes.names], np.int64)
    kept = np.zeros(len(order), bool)
    codes = classes.codes[order]
    for code in np.flatnonzero(free).tolist():
        kept[order[np.flatnonzero(codes == code)[: free[code]]]] = True
    return np.flatnonzero(kept)
