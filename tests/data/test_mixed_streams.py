"""Mixtures of streams: shares, order, caps, statistics, and going on where one stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.mixed_streams import Drawn, StreamSource, mixed, shuffled
from luthier.data.mixtures import shares, turns
from luthier.errors import InputError

PARTS = st.lists(st.floats(0.05, 10), min_size=1, max_size=5).map(
    lambda raw: [one / sum(raw) for one in raw]
)


def source(name: str, size: int, share: float, most: int | None = None) -> StreamSource[str]:
    return StreamSource(name, lambda: (f"{name}{n}" for n in range(size)), share, most)


def take(sources: Sequence[StreamSource[str]], count: int, **how: Any) -> list[Drawn[str]]:
    return list(islice(mixed(sources, **{"seed": 0, "buffer": 8, **how}), count))


# ---- the shuffle buffer ------------------------------------------------------------------------


@given(st.lists(st.integers(), max_size=60), st.integers(1, 80), st.text(max_size=5))
def test_each_row_comes_once_however_small_the_buffer(
    rows: list[int], buffer: int, seed: str
) -> None:
    found = list(shuffled(rows, buffer, seed))
    assert Counter(found) == Counter(rows)
    assert found == list(shuffled(iter(rows), buffer, seed))


def test_a_buffer_of_one_keeps_the_order_and_a_larger_one_does_not() -> None:
    assert list(shuffled(range(100), 1, "s")) == list(range(100))
    assert list(shuffled(range(100), 10, "s")) != list(range(100))
    assert list(shuffled(range(100), 10, "s")) != list(shuffled(range(100), 10, "t"))


def test_no_more_rows_are_held_than_the_buffer_has_room_for() -> None:
    read = 0

    def rows() -> Iterator[int]:
        nonlocal read
        for number in range(1000):
            read = number + 1
            yield number

    stream = shuffled(rows(), 50, "s")
    for given_out in range(1, 900):
        next(stream)
        assert read <= given_out + 50


def test_a_full_buffer_is_an_even_shuffle() -> None:
    first = Counter(next(shuffled(range(5), 5, f"seed {n}")) for n in range(2000))
    assert all(330 < first[n] < 470 for n in range(5))


# ---- shares ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(PARTS, st.integers(0, 200), st.integers(0, 3))
def test_no_source_is_a_whole_draw_ahead_of_its_share(
    parts: list[float], total: int, seed: int
) -> None:
    sources = [source("abcde"[n], 7 + n, part) for n, part in enumerate(parts)]
    counts: Counter[str] = Counter()
    for step, drawn in enumerate(take(sources, total, seed=seed), 1):
        counts[drawn.source] += 1
        for name, part in zip("abcde", parts, strict=False):
            assert part * step - len(parts) < counts[name] < part * step + 1


def test_turns_are_those_of_mixtures_in_memory() -> None:
    parts = [0.5, 0.3, 0.2]
    found = take([source(name, 9, part) for name, part in zip("abc", parts, strict=True)], 200)
    assert ["abc".index(drawn.source) for drawn in found] == turns(parts, 200)


def test_weights_temperature_and_cap_make_the_shares() -> None:
    sizes = {"a": 10_000, "b": 100}
    for how, expected in (
        ({"weights": [1, 3]}, (250, 750)),
        ({"temperature": 1.0}, (990, 10)),
        ({"temperature": 2.0}, (909, 91)),
        ({"cap": 100}, (500, 500)),
    ):
        parts = shares(list(sizes.values()), **how)  # type: ignore[arg-type]
        found = Counter(
            drawn.source
            for drawn in take(
                [
                    source(name, size, part)
                    for (name, size), part in zip(sizes.items(), parts, strict=True)
                ],
                1000,
            )
        )
        assert (found["a"], found["b"]) == pytest.approx(expected, abs=1)


def test_a_cap_on_rows_takes_the_first_of_each_pass() -> None:
    found = take([source("a", 1000, 0.5, most=5), source("b", 1000, 0.5)], 40)
    mine = [drawn.row for drawn in found if drawn.source == "a"]
    assert set(mine) == {f"a{n}" for n in range(5)}
    assert Counter(mine) == Counter({f"a{n}": 4 for n in range(5)})
    assert [drawn.epoch for drawn in found if drawn.source == "a"] == [n // 5 for n in range(20)]


# ---- passes ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 100))
def test_all_rows_come_before_any_comes_again(size: int, buffer: int, total: int) -> None:
    found = take([source("a", size, 1.0)], total, buffer=buffer)
    for begin in range(0, total, size):
        one_pass = found[begin : begin + size]
        assert len({drawn.row for drawn in one_pass}) == len(one_pass)
        assert {drawn.epoch for drawn in one_pass} == {begin // size}


def test_each_pass_has_an_order_of_its_own() -> None:
    found = [drawn.row for drawn in take([source("a", 20, 1.0)], 60, buffer=20)]
    orders = [found[begin : begin + 20] for begin in (0, 20, 40)]
    assert all(one != other for one, other in pairwise(orders))


# ---- sameness, and going on --------------------------------------------------------------------


@settings(deadline=None)
@given(PARTS, st.integers(0, 60), st.integers(0, 60), st.integers(0, 3))
def test_a_stream_goes_on_where_it_stopped(
    parts: list[float], before: int, after: int, seed: int
) -> None:
    sources = [source("abcde"[n], 3 + 5 * n, part) for n, part in enumerate(parts)]
    whole = take(sources, before + after, seed=seed)
    assert take(sources, after, seed=seed, start=before) == whole[before:]
    assert take(sources, before + after, seed=seed) == whole


def test_the_seed_decides_on_the_orders_and_not_on_the_turns() -> None:
    sources = [source("a", 50, 0.5), source("b", 50, 0.5)]
    one, two = take(sources, 60, seed=1), take(sources, 60, seed=2)
    assert [drawn.source for drawn in one] == [drawn.source for drawn in two]
    assert [drawn.row for drawn in one] != [drawn.row for drawn in two]


def test_sources_are_read_from_files(tmp_path: Path) -> None:
    from luthier.data.reading import stream_rows

    for name, count in (("a", 30), ("b", 10)):
        lines = "".join(f'{{"t": "{name}{n}"}}\n' for n in range(count))
        (tmp_path / f"{name}.jsonl").write_text(lines, "utf-8")

    def opened(name: str) -> StreamSource[Any]:
        return StreamSource(name, lambda: stream_rows(f"{name}.jsonl", tmp_path), 0.5)

    found = list(islice(mixed([opened("a"), opened("b")], seed=0), 60))
    assert Counter(drawn.row.values["t"] for drawn in found if drawn.source == "a") == Counter(
        f"a{n}" for n in range(30)
    )
    assert [drawn.epoch for drawn in found if drawn.source == "b"] == [n // 10 for n in range(30)]


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ([], "The shares of a mixture are"),
        ([source("a", 3, 0.5)], "they add up to 1"),
        ([source("a", 3, 1.5), source("b", 3, -0.5)], "Each is above 0"),
        ([source("a", 3, 0.5), source("a", 3, 0.5)], "Two sources of a mixture have one name"),
        ([source("a", 3, 0.5), source("b", 0, 0.5)], "The source b of a mixture has no rows"),
        ([source("a", 3, 1.0, most=0)], "The source a of a mixture has no rows"),
    ],
)
def test_mixtures_that_make_no_sense(sources: list[StreamSource[str]], said: str) -> None:
    with pytest.raises(InputError) as caught:
        take(sources, 5)
    assert said in str(caught.value)
