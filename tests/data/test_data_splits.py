"""Cutting and limiting: sizes, shares, groups, repeats, and sameness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.examples import Example, Message, Splits, content_hash
from luthier.data.shares import allocate
from luthier.data.splits import cut_sizes, make_splits
from luthier.errors import InputError
from luthier.task_sections import Limit


def example(
    number: int, output: str = "o", text: str | None = None, group: str | None = None
) -> Example:
    asked = text if text is not None else f"question {number}"
    return Example(f"id{number}", (Message("user", asked),), output, group, f"t.csv row {number}")


def split(
    train: Sequence[Example],
    validation: Sequence[Example] | None = None,
    test: Sequence[Example] | None = None,
    *,
    seed: int = 0,
    stratify: bool = False,
    limit: Limit | None = None,
) -> Splits:
    made, _ = make_splits(
        train, validation, test, limit=limit or Limit(), seed=seed, stratify=stratify
    )
    return made


def sizes(splits: Splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.validation), len(splits.test)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # test 20 % of all, validation 20 % of the rest
        (200, (40, 32)),
        (1000, (200, 100)),
        (5000, (500, 100)),
        # at least 20 and 10 where there are enough
        (50, (20, 10)),
        (60, (20, 10)),
        (10, (4, 2)),
    ],
)
def test_sizes_of_cuts(rows: int, expected: tuple[int, int]) -> None:
    assert tuple(cut_sizes(rows, Limit(), True, True).values()) == expected
    made = split([example(n) for n in range(rows)])
    assert (len(made.test), len(made.validation)) == expected
    assert len(made.train) == rows - sum(expected)


def test_only_what_is_missing_is_cut() -> None:
    rows = [example(n) for n in range(100)]
    other = [example(n) for n in range(200, 230)]
    assert sizes(split(rows, other, other)) == (100, 30, 30)
    assert sizes(split(rows, None, other)) == (80, 20, 30)
    assert sizes(split(rows, other)) == (80, 30, 20)


@pytest.mark.parametrize(
    ("rows", "limit", "expected"),
    [
        (1000, {"train": 500}, (500, 100, 200)),
        (1000, {"train": 750}, (750, 84, 166)),  # the cuts shrink before training does
        (1000, {"train": 990}, (970, 10, 20)),  # but not below their least sizes
        (1000, {"train": 5000}, (700, 100, 200)),
        (5000, {"train": 500, "test": 200}, (500, 100, 200)),
        (5000, {"train": 500, "test": 900, "validation": 300}, (500, 300, 900)),
        (100, {"test": 5, "validation": 3}, (92, 3, 5)),
    ],
)
def test_limits_count_rows_after_cutting(
    rows: int, limit: dict[str, int], expected: tuple[int, int, int]
) -> None:
    assert sizes(split([example(n) for n in range(rows)], limit=Limit(**limit))) == expected


def test_limits_of_given_splits() -> None:
    rows = [example(n) for n in range(100)]
    made = split(rows, rows, rows, limit=Limit(train=50, validation=20, test=10))
    assert sizes(made) == (50, 20, 10)


def test_the_same_on_any_machine() -> None:
    rows = [example(n, output="ab"[n % 2]) for n in range(60)]
    made = split(rows, seed=7, stratify=True)
    # fixed values: a change here means that old runs can no longer be reproduced
    assert content_hash(made.train)[:12] == "ebc6a20e40dd"
    assert content_hash(made.validation)[:12] == "130e4c5e8899"
    assert content_hash(made.test)[:12] == "d2d871fdc340"
    assert split(rows, seed=7, stratify=True) == made
    assert split(rows, seed=8, stratify=True).test != made.test


def test_a_cut_does_not_depend_on_the_order_of_the_file() -> None:
    rows = [example(n) for n in range(100)]
    one, two = split(rows), split(rows[::-1])
    assert set(one.test) == set(two.test)
    assert set(one.validation) == set(two.validation)
    assert one.train == two.train


def test_training_is_shuffled_and_the_rest_is_in_order() -> None:
    rows = [example(n) for n in range(200)]
    made = split(rows)
    for part in (made.validation, made.test):
        numbers = [int(e.id[2:]) for e in part]
        assert numbers == sorted(numbers)
    numbers = [int(e.id[2:]) for e in made.train]
    assert numbers != sorted(numbers)
    assert split(rows, rows, rows, seed=1).train != split(rows, rows, rows, seed=2).train


def test_classes_keep_their_shares() -> None:
    rows = [example(n, "a" if n % 10 else "b") for n in range(1000)]  # 900 a, 100 b
    made = split(rows, stratify=True, limit=Limit(train=300))
    assert Counter(e.output for e in made.train) == {"a": 270, "b": 30}
    assert Counter(e.output for e in made.validation) == {"a": 90, "b": 10}
    assert Counter(e.output for e in made.test) == {"a": 180, "b": 20}


def test_a_limit_keeps_two_rows_of_each_class() -> None:
    rows = [example(n) for n in range(1000)] + [
        example(1000 + n, f"rare{n // 3}") for n in range(30)
    ]
    made = split(rows, rows, rows, stratify=True, limit=Limit(train=40))
    counts = Counter(e.output for e in made.train)
    assert sum(counts.values()) == 40
    assert all(counts[f"rare{n}"] == 2 for n in range(10))


def test_a_class_of_two_rows_stays_in_training() -> None:
    rows = [example(n) for n in range(100)] + [example(100 + n, "rare") for n in range(2)]
    for seed in range(20):
        made = split(rows, stratify=True, seed=seed)
        assert "rare" in {e.output for e in made.train}


@pytest.mark.parametrize("groups", [4, 10, 50])
def test_groups_are_never_parted(groups: int) -> None:
    rows = [example(n, group=f"g{n % groups}") for n in range(200)]
    made = split(rows)
    parts = [{e.group for e in part} for _, part in made.items()]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert all(parts)


def test_a_row_without_a_group_stands_alone() -> None:
    rows = [example(n, group="g" if n < 20 else None) for n in range(200)]
    assert sizes(split(rows)) == (128, 32, 40)


def test_the_same_input_is_never_on_two_sides() -> None:
    words = ["Good.", "good", "Bad!", "bad", "fine"]
    rows = [example(n, text=words[n % 5] if n % 4 == 0 else None) for n in range(400)]
    made = split(rows)
    kept = [{e.input.strip(".!").lower() for e in part} for _, part in made.items()]
    assert not kept[0] & kept[1] and not kept[0] & kept[2] and not kept[1] & kept[2]
    assert sum(sizes(made)) == 400


def test_frequent_inputs_do_not_chain_groups_together() -> None:
    # every group says "ok" once: by inputs alone, all rows would be one
    rows = [example(n, text="ok" if n % 10 == 0 else None, group=f"g{n // 10}") for n in range(500)]
    made, notes = make_splits(rows, None, None, limit=Limit(), seed=0, stratify=False)
    texts = [{e.input for e in part} for _, part in made.items()]
    groups = [{e.group for e in part} for _, part in made.items()]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert not texts[one] & texts[two]
        assert not groups[one] & groups[two]
    assert len(made.test) >= 80
    assert len(made.train) >= 250
    assert any("repeat an input" in note for note in notes)


def test_large_groups_are_cut_down_to_the_size() -> None:
    rows = [example(n, group=f"g{n % 5}") for n in range(1000)]
    made, notes = make_splits(rows, None, None, limit=Limit(), seed=0, stratify=False)
    assert sizes(made) == (600, 100, 200)
    assert any("100 more rows of their groups are left out" in note for note in notes)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([example(n) for n in range(9)], "9 training rows are too few to cut test and validation"),
        ([example(n, text="same") for n in range(100)], "fall into 1 set that share"),
        ([example(n, group=f"g{n % 2}") for n in range(100)], "fall into 2 sets that share"),
        (
            [example(n, group="g" if n < 97 else None) for n in range(100)],
            "Only 2 of 100 training rows could be cut for test (20 are wanted)",
        ),
    ],
)
def test_too_little_to_cut_from(rows: list[Example], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        split(rows)
    assert expected in str(caught.value)
    assert "`data.test`" in str(caught.value)


def test_validation_alone_needs_five_rows() -> None:
    other = [example(100)]
    with pytest.raises(InputError, match="4 training rows are too few to cut validation"):
        split([example(n) for n in range(4)], None, other)
    assert sizes(split([example(n) for n in range(5)], None, other)) == (3, 2, 1)


@settings(deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 50), min_size=1),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_allocation(counts: dict[str, int], share: float, least: int) -> None:
    total = int(share * sum(counts.values()))
    given_out = allocate(counts, total, least)
    assert sum(given_out.values()) == total
    assert all(0 <= given_out[name] <= counts[name] for name in counts)
    if total >= least * len(counts):
        assert all(given_out[name] >= min(least, counts[name]) for name in counts)
    if least == 0:  # nobody is a whole row from the exact share, downwards
        everything = sum(counts.values())
        assert all(given_out[n] > total * c / everything - 1 for n, c in counts.items())


def test_allocation_by_hand() -> None:
    assert allocate({"a": 70, "b": 20, "c": 10}, 10, 0) == {"a": 7, "b": 2, "c": 1}
    assert allocate({"a": 98, "b": 1, "c": 1}, 10, 2) == {"a": 8, "b": 1, "c": 1}
    assert allocate({"a": 5, "b": 5, "c": 5}, 2, 2) == {"a": 1, "b": 1, "c": 0}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("xyz"),
            st.none() | st.sampled_from("ABCDEFGH"),
            st.integers(0, 40),
        ),
        min_size=1,
        max_size=80,
    ),
    st.integers(0, 5),
    st.booleans(),
    st.none() | st.integers(1, 40),
)
def test_any_rows_split_soundly_or_are_refused(
    rows: list[tuple[str, str | None, int]], seed: int, stratify: bool, most: int | None
) -> None:
    examples = [example(n, out, f"text {text}", group) for n, (out, group, text) in enumerate(rows)]
    limit = Limit(train=most)
    try:
        made, notes = make_splits(examples, None, None, limit=limit, seed=seed, stratify=stratify)
    except InputError as error:
        assert "`data.test`" in str(error)
        return
    assert all(sizes(made))
    ids = [e.id for _, part in made.items() for e in part]
    assert len(ids) == len(set(ids))
    assert most is None or len(made.train) <= most
    parts = [part for _, part in made.items()]
    for one in range(3):
        for two in range(one):
            assert not {e.input for e in parts[one]} & {e.input for e in parts[two]}
            assert not ({e.group for e in parts[one]} & {e.group for e in parts[two]}) - {None}
    assert len(notes) >= 2
