"""k-fold cross-validation: every row is held out once, and what is alike stays together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from distinct_texts import one_word_changed, text
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.examples import Example, Message
from luthier.data.folds import folds
from luthier.data.near_duplicates import clusters
from luthier.errors import InputError
from luthier.task_sections import Split


def row(
    number: int, said: str | None = None, group: str | None = None, output: str = "o"
) -> Example:
    return Example(
        f"id{number}", (Message("user", text(number) if said is None else said),), output, group
    )


def held_out(rows: list[Example], k: int, **how: Any) -> list[set[str]]:
    found = folds(rows, k, **how)
    everything = set(range(len(rows)))
    for train, test in found:
        assert set(train) | set(test) == everything
        assert not set(train) & set(test)
        assert train == sorted(train)
        assert test == sorted(test)
    assert Counter(place for _, test in found for place in test) == Counter(everything)
    return [{rows[place].id for place in test} for _, test in found]


@pytest.mark.parametrize("k", [2, 3, 10])
def test_each_row_is_held_out_once_and_folds_are_of_one_size(k: int) -> None:
    found = held_out([row(n) for n in range(101)], k)
    sizes = sorted(map(len, found))
    assert sizes[-1] - sizes[0] <= 1


def test_as_many_folds_as_rows() -> None:
    assert all(len(part) == 1 for part in held_out([row(n) for n in range(12)], 12))


def test_the_seed_decides_and_the_order_does_not() -> None:
    rows = [row(n, output="ab"[n % 2]) for n in range(60)]
    first = held_out(rows, 5, stratify=True)
    assert held_out(rows[::-1], 5, stratify=True) == first
    assert held_out(rows, 5, stratify=True, seed=1) != first


def test_classes_keep_their_shares() -> None:
    rows = [row(n, output="rare" if n % 10 == 0 else "often") for n in range(200)]
    for part in held_out(rows, 5, stratify=True):
        assert len(part) == 40
        assert sum(int(name[2:]) % 10 == 0 for name in part) == 4


def test_groups_and_near_duplicates_are_on_one_side() -> None:
    rows = [row(n, group=f"g{n // 3}" if n < 60 else None) for n in range(90)]
    rows += [
        row(90 + n, said=f"{text(60 + n // 2)} and more words here {'ab'[n % 2]}")
        for n in range(60)
    ]
    parts = held_out(rows, 5)
    place = {name: fold for fold, part in enumerate(parts) for name in part}
    for key in (
        {e.id: e.group for e in rows if e.group},
        dict(zip((e.id for e in rows), clusters(e.input for e in rows).tolist(), strict=True)),
    ):
        seen: dict[Any, set[int]] = {}
        for name, value in key.items():
            seen.setdefault(value, set()).add(place[name])
        assert all(len(where) == 1 for where in seen.values())


def test_near_duplicates_can_be_left_alone() -> None:
    rows = [row(n, said=one_word_changed(n)) for n in range(40)]
    with pytest.raises(InputError, match="fall into 1 set"):
        folds(rows, 2)
    assert len(held_out(rows, 2, split=Split(near_duplicates=False))) == 2


def test_too_few() -> None:
    with pytest.raises(InputError, match="1 folds are too few"):
        folds([row(1), row(2)], 1)
    with pytest.raises(InputError, match="The 20 rows fall into 4 sets that share a group"):
        folds([row(n, group=f"g{n % 4}") for n in range(20)], 5)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 25), st.none() | st.sampled_from("ABCDEF"), st.sampled_from("xyz")
        ),
        min_size=2,
        max_size=60,
    ),
    st.integers(2, 6),
    st.booleans(),
    st.integers(0, 3),
)
def test_any_rows_are_dealt_out_soundly(
    made_of: list[tuple[int, str | None, str]], k: int, stratify: bool, seed: int
) -> None:
    rows = [row(n, text(t), group, out) for n, (t, group, out) in enumerate(made_of)]
    try:
        parts = held_out(rows, k, stratify=stratify, seed=seed)
    except InputError as error:
        assert "too few" in str(error)
        return
    assert all(parts)
    for one in range(k):
        inside = [e for e in rows if e.id in parts[one]]
        outside = [e for e in rows if e.id not in parts[one]]
        assert not {e.input for e in inside} & {e.input for e in outside}
        assert not ({e.group for e in inside} & {e.group for e in outside}) - {None}
