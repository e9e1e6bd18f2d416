"""Several sources into one file, each with its share: mixtures of rows that need not fit in memory.

Every source is gone through once to count what can be used, which the shares rest on; then rows are
drawn (`mixed_streams`) and written as they come. Memory holds a shuffle buffer for each source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from luthier.data.converting import files_read, finish
from luthier.data.converting import lines_of as lines_in
from luthier.data.format import Format
from luthier.data.mixed_streams import BUFFER, StreamSource, mixed
from luthier.data.mixtures import shares, turn_by_turn
from luthier.data.refused import Refused
from luthier.data.row_plans import Plan, Wish, plan_of, target_of
from luthier.data.sizes import characters
from luthier.data.spool import spool_beside
from luthier.data.writing import FileKind, Values, kind_of
from luthier.errors import InputError, did_you_mean
from luthier.files import hash_of, write_atomically
from luthier.progress import Reporter, tracked, tracked_work

_VERSION = 1


@dataclass(frozen=True)
class MixSource:
    """One source of a mixture.

    Attributes:
        name: in messages, statistics and the column of the file.
        source: as for `stream_rows`.
        weight: its share of the draws, in proportion to the other weights; None for 1 where others
            have one.
        most: the most of its rows that are used, the first ones; None for all.
    """

    name: str
    source: str
    weight: float | None = None
    most: int | None = None


@dataclass(frozen=True)
class MixWish:
    """How sources are mixed.

    Attributes:
        to: the format of the rows, as for `converting.Wish`; None keeps the columns of each.
        temperature: T in p ~ min(n, cap)^(1/T), n being the rows of a source; see `mixtures`.
        cap: the most rows that a source counts for in that.
        rows: how many are drawn; None for as many as there are without any row coming twice.
        seed: of the orders.
        buffer: rows of each source that are held and drawn from.
        column: gets the name of each row's source; None for no such column.
    """

    to: str | None = None
    temperature: float | None = None
    cap: int | None = None
    rows: int | None = None
    seed: int = 0
    buffer: int = BUFFER
    column: str | None = "source"


@dataclass(frozen=True)
class MixedSource:
    """What a mixture takes of one source.

    Attributes:
        name, source: as in `MixSource`.
        read_as: a sentence on what it was taken for.
        rows: that can be used.
        refused: rows that cannot.
        share: of all draws.
        draws: of its rows.
        epochs: how often each of its rows is drawn, on average.
        characters: mean length of its rows' texts.
    """

    name: str
    source: str
    read_as: str
    rows: int
    refused: int
    share: float = 0.0
    draws: int = 0
    epochs: float = 0.0
    characters: float = 0.0


@dataclass(frozen=True)
class MixedFile:
    """What was written.

    Attributes:
        out: the file.
        rows: how many it has.
        sources: what it takes of each.
        lost: what could not be kept, and in how many rows.
        refused: rows of all sources that could not be used.
    """

    out: Path
    rows: int
    sources: tuple[MixedSource, ...]
    lost: Counter[str] = field(default_factory=Counter)
    refused: Refused = field(default_factory=Refused)


def mix_files(
    sources: list[MixSource],
    base: Path,
    out: Path,
    wish: MixWish,
    *,
    force: bool = False,
    reporter: Reporter | None = None,
    refused: Refused | None = None,
) -> MixedFile:
    """Draw rows of several sources into one file.

    A call that was killed is gone on with by the same call, as long as the sources are the same.

    Args:
        sources: at least one, of different names.
        base: the folder that relative paths start from.
        out: the file; its ending says its kind.
        wish: how.
        force: whether a file that is there already is replaced.
        reporter: hears how far it is.
        refused: takes the rows that cannot be used.

    Raises:
        InputError: names, weights or sizes that make no sense; a source that cannot be read, or
            has no row that can be used; a file that is there already.
        RunError: the file cannot be written, or another process writes it.
    """
    reporter = reporter or Reporter()
    refused = Refused() if refused is None else refused
    _check(sources, wish)
    kind = kind_of(out)
    if out.exists() and not force:
        raise InputError(f"{out} is there already.", fix="Name another file, or use --force.")
    target = target_of(wish.to or kind.name, kind, out)
    to = wish.to or kind.name
    parts = [
        _Part(one, base, _planned(one, base, to, target), kind, wish.column) for one in sources
    ]
    if out.exists() and any(out.samefile(file) for part in parts for file in part.files):
        raise InputError(f"{out} is one of the sources.", fix="Name another file.")
    counted = [part.counted(refused, reporter) for part in parts]
    sizes = [one.rows for one in counted]
    weights = [one.weight for one in sources]
    share = shares(sizes, weights=weights, temperature=wish.temperature, cap=wish.cap)
    total = wish.rows or _without_repeats(sizes, share)
    key = hash_of([_VERSION, [part.key for part in parts], vars(wish), total, kind.name])
    streams = [
        StreamSource(part.given.name, part.usable, one, part.given.most)
        for part, one in zip(parts, share, strict=True)
    ]
    with spool_beside(out, key if all(part.files for part in parts) else None) as spool:
        earlier = spool.taken
        spool.go_on()
        if earlier:
            reporter.say(f"Going on behind row {earlier:,}, where an earlier call stopped.")
        rows = mixed(streams, seed=wish.seed, buffer=wish.buffer, start=earlier)
        with reporter.work("mixing", total) as bar:
            bar.advance(earlier)
            some = tracked(islice(rows, total - earlier), bar)
            for number, drawn in enumerate(some, earlier + 1):
                values, lost = drawn.row
                spool.add(values)
                spool.lost.update(lost)
                spool.done_with(number)
        lost = Counter(spool.lost)
        write_atomically(out, lambda part: finish(spool, kind, part, lost))
    draws = Counter(islice(turn_by_turn(share), total))
    return MixedFile(
        out,
        total,
        tuple(
            MixedSource(
                **{
                    **vars(one),
                    "share": share[place],
                    "draws": draws[place],
                    "epochs": draws[place] / one.rows,
                }
            )
            for place, one in enumerate(counted)
        ),
        lost,
        refused,
    )


def _planned(one: MixSource, base: Path, to: str, target: Format | None) -> Plan:
    try:
        return plan_of(one.source, base, Wish(to), target)
    except InputError as error:
        if "--map" not in error.fix:
            raise
        raise InputError(
            error.message,
            fix=f"Convert it first: luthier convert {one.source} --to {to} --map prompt=COLUMN "
            "--map completion=COLUMN --out NEW.jsonl",
        ) from None


def _without_repeats(sizes: list[int], share: list[float]) -> int:
    """The most draws in which no row of any source comes twice."""
    drawn = [0] * len(sizes)
    total = 0
    if all(abs(part - size / sum(sizes)) < 1e-12 for part, size in zip(share, sizes, strict=True)):
        return sum(sizes)
    for turn in turn_by_turn(share):
        if drawn[turn] == sizes[turn]:
            return total
        drawn[turn] += 1
        total += 1
    return total


class _Part:
    """One source on its way into the file."""

    def __init__(
        self, given: MixSource, base: Path, plan: Plan, kind: FileKind, column: str | None
    ) -> None:
        self.given, self._plan, self._kind, self._column = given, plan, kind, column
        self.files = files_read(given.source, base, None)
        stamps = [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in self.files]
        self.key = [vars(given), stamps]

    def usable(self, refused: Refused | None = None) -> Iterator[tuple[Values, Counter[str]]]:
        """The rows of the file that can be made of it, and what each loses."""
        refused = refused or Refused()
        for row in self._plan.rows(refused):
            try:
                written = self._plan.written(row, self._kind)
                if self._column is not None and self._column in written.values:
                    raise InputError(
                        f"{self.given.source} has a column {self._column!r} already.",
                        fix="Give the column of the sources' names another name: "
                        "--source-column NAME, or none: --no-source-column.",
                    )
            except InputError as error:
                refused.add(row.source, error)
                continue
            named = {} if self._column is None else {self._column: self.given.name}
            yield {**written.values, **named}, Counter(written.lost)

    def counted(self, refused: Refused, reporter: Reporter) -> MixedSource:
        """Its rows, those that cannot be used, and how long they are."""
        before, rows, length = refused.count, 0, 0
        read = tracked_work(
            reporter, f"counting {self.given.name}", lines_in(self.files), self.usable(refused)
        )
        for values, _ in islice(read, self.given.most):
            rows += 1
            length += characters(values)
        if not rows:
            raise InputError(
                f"{self.given.source}: none of its rows can be used.",
                fix=f"The first: {refused.rows[-1].reason}" if refused.rows else "",
            )
        return MixedSource(
            self.given.name,
            self.given.source,
            self._plan.read_as,
            rows,
            refused.count - before,
            characters=length / rows,
        )


def _check(sources: list[MixSource], wish: MixWish) -> None:
    names = [one.name for one in sources]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"Two sources are called {name!r}.", fix="Name them: one=a.jsonl two=b.jsonl."
            )
    weighted = any(one.weight is not None for one in sources)
    if weighted and (wish.temperature is not None or wish.cap is not None):
        raise InputError(
            "Shares are given as weights, or come of the rows by temperature and cap, not both.",
            fix="Leave --weight out, or --temperature and --cap.",
        )
    for one in sources:
        if one.weight is not None and not 0 < one.weight < float("inf"):
            raise InputError(f"The weight of {one.name} is {one.weight}; it must be above 0.")
        if one.most is not None and one.most < 1:
            raise InputError(f"At most {one.most} rows of {one.name} leave none.")
    if wish.temperature is not None and not 0 < wish.temperature < float("inf"):
        raise InputError(f"The temperature is {wish.temperature}; it must be above 0.")


def by_name(pairs: dict[str, Any], sources: list[str], option: str) -> None:
    """Raise `InputError` for a name that no source has."""
    for name in pairs:
        if name not in sources:
            raise InputError(
                f"{option} names {name!r}, which is no source.", fix=did_you_mean(name, sources)
            )
