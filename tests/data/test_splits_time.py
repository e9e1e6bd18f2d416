"""Cutting by time, and the keys of `data.split`: sizes, stratification, near-duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from distinct_texts import one_word_changed, text
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.examples import Example, Message, Splits
from luthier.data.near_duplicates import clusters
from luthier.data.splits import make_splits
from luthier.data.times import parse_time, parse_times
from luthier.errors import InputError
from luthier.task_sections import Limit, Split


def row(
    number: int,
    time: object = None,
    *,
    output: str = "o",
    group: str | None = None,
    said: str | None = None,
    **fields: Any,
) -> Example:
    fields = {**fields, "at": time} if time is not None else fields
    asked = (Message("user", text(number) if said is None else said),)
    return Example(f"id{number}", asked, output, group, f"t.csv row {number}", fields or None)


def cut(rows: Sequence[Example], *, seed: int = 0, **keys: Any) -> tuple[Splits, tuple[str, ...]]:
    return make_splits(
        rows, None, None, limit=Limit(), seed=seed, stratify=False, split=Split(**keys)
    )


def numbers(part: Sequence[Example]) -> list[int]:
    return sorted(int(example.id[2:]) for example in part)


def failure(rows: Sequence[Example], **keys: Any) -> str:
    with pytest.raises(InputError) as caught:
        cut(rows, **keys)
    return str(caught.value)


# ---- times -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2021-04-03", datetime(2021, 4, 3, tzinfo=UTC)),
        ("2021-04-03T12:30:00Z", datetime(2021, 4, 3, 12, 30, tzinfo=UTC)),
        ("2021-04-03 14:30+02:00", datetime(2021, 4, 3, 12, 30, tzinfo=UTC)),
        ("3.4.2021 12:30", datetime(2021, 4, 3, 12, 30, tzinfo=UTC)),
        ("Apr 3, 2021", datetime(2021, 4, 3, tzinfo=UTC)),
        ("07 8, 2014", datetime(2014, 7, 8, tzinfo=UTC)),
        ("Sat, 03 Apr 2021 12:30:00 +0000", datetime(2021, 4, 3, 12, 30, tzinfo=UTC)),
        ("1617453000", datetime(2021, 4, 3, 12, 30, tzinfo=UTC)),
        (1617453000, datetime(2021, 4, 3, 12, 30, tzinfo=UTC)),
        (1617453000000, datetime(2021, 4, 3, 12, 30, tzinfo=UTC)),
        ("1617453000.000123", datetime(2021, 4, 3, 12, 30, 0, 123, tzinfo=UTC)),
        ("20210403", datetime(2021, 4, 3, tzinfo=UTC)),
        (2021, datetime(2021, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_as_people_write_them(written: object, expected: datetime) -> None:
    found = parse_time(written)
    assert found == pytest.approx(expected.timestamp(), abs=1e-3)


@pytest.mark.parametrize("written", ["", "soon", None, True, "3/4/2021", "2021-13-40", [1], "nan"])
def test_what_is_no_time(written: object) -> None:
    assert parse_time(written) is None


@given(
    st.datetimes(datetime(1973, 6, 1), datetime(2100, 1, 1)).map(lambda d: d.replace(tzinfo=UTC))
)
def test_one_moment_in_several_spellings(moment: datetime) -> None:
    seconds = moment.timestamp()
    assert parse_time(moment.isoformat()) == pytest.approx(seconds, abs=1e-5)
    assert parse_time(repr(seconds)) == pytest.approx(seconds, abs=1e-3)
    assert parse_time(int(seconds * 1e3)) == pytest.approx(seconds, abs=2e-3)
    assert parse_time(int(seconds) * 10**9) == pytest.approx(int(seconds), abs=1e-3)


def test_slashes_are_read_as_all_rows_allow() -> None:
    def read(*values: str) -> list[float]:
        return parse_times([(value, f"row {n}") for n, value in enumerate(values)], "at")

    third_of_april = datetime(2021, 4, 3, tzinfo=UTC).timestamp()
    assert read("3/4/2021", "25/12/2020")[0] == third_of_april
    assert read("4/3/2021", "12/25/2020")[0] == third_of_april
    with pytest.raises(InputError, match="Whether day or month comes first cannot be told"):
        read("3/4/2021", "5/6/2021")


def test_hostile_values_are_counted_and_named() -> None:
    values: list[tuple[object, str]] = [
        ("2021-01-01", "row 1"),
        ("x" * 500, "row 2"),
        ("9" * 400, "row 3"),
    ]
    with pytest.raises(InputError) as caught:
        parse_times(values, "data.split.time: at")
    assert "`data.split.time: at`: 2 of 3 rows have no time" in str(caught.value)
    assert "row 2" in str(caught.value)
    assert len(str(caught.value)) < 500


@given(st.text(max_size=30) | st.integers() | st.floats())
def test_any_value_is_a_time_or_none(value: object) -> None:
    found = parse_time(value)
    assert found is None or found == found


# ---- cutting by time ---------------------------------------------------------------------------


def days(count: int) -> list[Example]:
    first = datetime(2021, 1, 1, tzinfo=UTC)
    return [row(n, (first + timedelta(days=n)).date().isoformat()) for n in range(count)]


def test_the_newest_rows_are_the_test_and_the_next_validation() -> None:
    rows = days(100)
    made, notes = cut(rows[::-1], time="at", test=0.2, validation=10)
    assert numbers(made.test) == list(range(80, 100))
    assert numbers(made.validation) == list(range(70, 80))
    assert numbers(made.train) == list(range(70))
    assert notes[0] == "test: 20 of 100 training rows were cut, from 2021-03-22 to 2021-04-10."


def test_rows_of_one_time_are_not_cut_apart() -> None:
    rows = [row(n, f"2021-01-{n // 7 + 1:02}") for n in range(100)]  # weeks of seven rows
    made, notes = cut(rows, time="at", test=20, validation=10)
    parts = [{e.fields["at"] for e in part if e.fields} for _, part in made.items()]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert max(parts[0]) < min(parts[1]) <= max(parts[1]) < min(parts[2])
    assert "rows of one time stay together" in notes[0]
    assert len(made.test) == 16  # 80 and 81 are of a time that begins at 77


def test_what_repeats_newer_rows_leaves_the_older_side() -> None:
    rows = days(100)
    rows[3] = row(3, "2021-01-04", said=text(95).replace("all", "all!"))  # as row 95
    rows[75] = row(75, "2021-03-17", group="thread")
    rows[20] = row(20, "2021-01-21", group="thread")
    rows[21] = row(21, "2021-01-22", said=text(99).replace("not", "else"))  # nearly as row 99
    made, notes = cut(rows, time="at", test=20, validation=10)
    assert numbers(made.test) == list(range(80, 100))
    assert numbers(made.train) == [n for n in range(70) if n not in (3, 20, 21)]
    assert any(note.startswith("3 older rows repeat an input or a group") for note in notes)


def test_too_few_times_are_said() -> None:
    message = failure([row(n, "2021-01-01") for n in range(50)], time="at")
    assert (
        "test cannot be cut by `data.split.time: at`: of 50 rows too many have one time" in message
    )
    lacking = [*days(30), row(30)]
    assert "`data.split.time` names the column 'at', which t.csv row 30 does not have" in failure(
        lacking, time="at"
    )
    assert "1 of 31 rows have no time that can be read: t.csv row 30 ('later')" in failure(
        [*days(30), row(30, "later")], time="at"
    )
    assert "Every validation row shares a group" in failure(
        [row(n, f"2021-01-{n + 1:02}", group="all") for n in range(30)], time="at"
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.none() | st.sampled_from("ABC")), min_size=3, max_size=60
    ),
    st.integers(1, 20),
    st.integers(1, 20),
    st.randoms(use_true_random=False),
)
def test_no_newer_row_trains_whatever_the_times(
    times: list[tuple[int, str | None]], test: int, validation: int, chance: Any
) -> None:
    rows = [row(n, 2000 + time, group=group) for n, (time, group) in enumerate(times)]
    keys = {"time": "at", "test": test, "validation": validation}
    try:
        made, _ = cut(rows, **keys)
    except InputError as error:
        assert "time" in str(error) or "too few" in str(error)
        return
    parts = [part for _, part in made.items()]
    for older, newer in ((0, 1), (0, 2), (1, 2)):
        assert max(_time(e) for e in parts[older]) < min(_time(e) for e in parts[newer])
        assert not ({e.group for e in parts[older]} & {e.group for e in parts[newer]}) - {None}
    shuffled = rows[:]
    chance.shuffle(shuffled)
    again, _ = cut(shuffled, **keys)
    assert [numbers(part) for _, part in again.items()] == [numbers(part) for part in parts]
    assert again.train == made.train


def _time(example: Example) -> int:
    return int((example.fields or {})["at"])


# ---- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"test": 0.1, "validation": 0.05}, (850, 50, 100)),
        ({"test": 300, "validation": 7}, (693, 7, 300)),
        ({"test": 0.4}, (500, 100, 400)),
        ({"validation": 1}, (799, 1, 200)),
    ],
)
def test_sizes_that_are_asked_for(keys: dict[str, Any], expected: tuple[int, ...]) -> None:
    made, _ = cut([row(n) for n in range(1000)], **keys)
    assert tuple(len(part) for _, part in made.items()) == expected


def test_more_than_there_is() -> None:
    message = failure([row(n) for n in range(50)], test=30, validation=20)
    assert "The 50 training rows are too few to cut 30 for the test and 20" in message
    assert "`data.split`" in message


def test_an_asked_size_is_not_shrunk_for_the_limit_of_training() -> None:
    rows = [row(n) for n in range(100)]
    made, _ = make_splits(
        rows, None, None, limit=Limit(train=90), seed=0, stratify=False, split=Split(test=30)
    )
    assert len(made.test) == 30
    assert len(made.validation) == 10


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"test": 0}, "greater than 0"),
        ({"test": 2.5}, "a share below 1 or a whole number of rows"),
        ({"time": "a", "stratify": "b"}, "not by both"),
    ],
)
def test_keys_that_make_no_sense(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Split(**keys)


# ---- stratification ----------------------------------------------------------------------------


def test_another_column_is_stratified_by() -> None:
    rows = [row(n, lang="en" if n % 5 else "de", output="ab"[n % 2]) for n in range(1000)]
    made, _ = cut(rows, stratify="lang", test=100, validation=50)
    for part, count in ((made.test, 20), (made.validation, 10), (made.train, 170)):
        assert Counter(e.fields["lang"] for e in part if e.fields)["de"] == count
    assert "does not have" in failure([*rows, row(1000)], stratify="lang")


@pytest.mark.parametrize("as_json", [False, True])
def test_lists_of_labels_are_stratified_each(as_json: bool) -> None:
    def tags(number: int) -> list[str]:
        return [name for name, each in (("a", 2), ("b", 5), ("rare", 50)) if number % each == 0]

    rows = [
        row(n, tags=str(tags(n)).replace("'", '"') if as_json else tags(n)) for n in range(1000)
    ]
    made, _ = cut(rows, stratify="tags", test=200, validation=100)
    for part, share in ((made.test, 0.2), (made.validation, 0.1), (made.train, 0.7)):
        assert len(part) == 1000 * share
        counts = Counter(tag for e in part for tag in tags(int(e.id[2:])))
        for name, whole in (("a", 500), ("b", 200), ("rare", 20)):
            assert abs(counts[name] - share * whole) <= 1


def test_lists_of_labels_do_not_depend_on_the_order_of_the_file() -> None:
    rows = [row(n, tags=["x"] * (n % 3 == 0) + ["y"] * (n % 4 == 0)) for n in range(200)]
    one, two = cut(rows, stratify="tags")[0], cut(rows[::-1], stratify="tags")[0]
    assert [numbers(part) for _, part in one.items()] == [numbers(part) for _, part in two.items()]


# ---- near-duplicates ---------------------------------------------------------------------------


def copies(count: int) -> list[Example]:
    """Rows in threes that differ in the last word."""
    return [
        row(n, said=f"{text(n // 3)} and then some more words to {'abc'[n % 3]}")
        for n in range(count)
    ]


def straddling(made: Splits) -> int:
    """Clusters of near-duplicates with rows in two splits."""
    everything = [e for _, part in made.items() for e in part]
    where = [number for number, (_, part) in enumerate(made.items()) for _ in part]
    of: dict[int, set[int]] = {}
    for cluster, side in zip(clusters(e.input for e in everything).tolist(), where, strict=True):
        of.setdefault(cluster, set()).add(side)
    return sum(len(sides) > 1 for sides in of.values())


@pytest.mark.parametrize("seed", range(3))
def test_no_near_duplicate_straddles(seed: int) -> None:
    made, notes = cut(copies(300), seed=seed)
    assert straddling(made) == 0
    assert sum(len(part) for _, part in made.items()) == 300
    assert any(note.startswith("near-duplicates: 200 inputs differ from another") for note in notes)
    apart, notes = cut(copies(300), seed=seed, near_duplicates=False)
    assert straddling(apart) > 0
    assert not any("near-duplicates" in note for note in notes)


def test_a_table_of_near_duplicates_is_cut_by_equal_inputs_unless_both_are_asked() -> None:
    rows = [row(n, said=one_word_changed(n)) for n in range(100)]
    made, notes = cut(rows)
    assert len(made.test) == 20
    assert any("most rows are near-duplicates" in note for note in notes)
    assert "share a group or an input" in failure(rows, near_duplicates=True)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.integers(0, 2), st.none() | st.sampled_from("ABCDEFGHIJ")),
        min_size=12,
        max_size=90,
    ),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_any_cut_is_sound_and_owes_nothing_to_the_order(
    made_of: list[tuple[int, int, str | None]], seed: int, chance: Any
) -> None:
    rows = [
        row(n, said=f"{text(t)} and then some more words to {'abc'[c]}", group=group)
        for n, (t, c, group) in enumerate(made_of)
    ]
    try:
        made, notes = cut(rows, seed=seed, near_duplicates=True)
    except InputError:
        return
    assert straddling(made) == 0
    ids = Counter(e.id for _, part in made.items() for e in part)
    assert set(ids.values()) == {1}
    if not any("left out" in note for note in notes):
        assert len(ids) == len(rows)
    groups = [{e.group for e in part} - {None} for _, part in made.items()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    shuffled = rows[:]
    chance.shuffle(shuffled)
    again, _ = cut(shuffled, seed=seed, near_duplicates=True)
    assert [numbers(part) for _, part in again.items()] == [numbers(p) for _, p in made.items()]
