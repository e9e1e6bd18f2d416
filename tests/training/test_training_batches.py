from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.training.batches import micro_batches, plan

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=120)
sizes = st.integers(1, 9)


@settings(max_examples=100, deadline=None)
@given(lengths, sizes, st.integers(1, 3), st.integers(0, 5))
def test_every_epoch_visits_every_example_once(
    found: list[int], size: int, epochs: int, seed: int
) -> None:
    steps = plan(found, batch_size=size, epochs=epochs, seed=seed)
    per_epoch = -(-len(found) // size)
    assert len(steps) == epochs * per_epoch
    for epoch in range(epochs):
        part = steps[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(row for batch in part for row in batch) == list(range(len(found)))
        assert all(1 <= len(batch) <= size for batch in part)
        assert sum(len(batch) < size for batch in part) <= 1
    assert steps == plan(found, batch_size=size, epochs=epochs, seed=seed)


@settings(max_examples=100, deadline=None)
@given(lengths, sizes, st.floats(0.01, 3))
def test_a_fraction_of_an_epoch_is_the_start_of_a_longer_plan(
    found: list[int], size: int, epochs: float
) -> None:
    steps = plan(found, batch_size=size, epochs=epochs, seed=1)
    per_epoch = -(-len(found) // size)
    assert len(steps) == max(1, round(epochs * per_epoch))
    assert steps == plan(found, batch_size=size, epochs=4, seed=1)[: len(steps)]
    visits = Counter(row for batch in steps for row in batch)
    # nobody is visited for the n-th time before the epochs before are done
    assert max(visits.values()) <= -(-len(steps) // per_epoch)


def test_seeds_and_epochs_differ_and_no_data_is_no_plan() -> None:
    one = plan([5] * 40, batch_size=4, epochs=2, seed=0)
    assert one != plan([5] * 40, batch_size=4, epochs=2, seed=1)
    assert one[:10] != one[10:]
    assert plan([], batch_size=4, epochs=2, seed=0) == []


def test_batches_hold_similar_lengths() -> None:
    found = [(37 * i) % 200 + 1 for i in range(256)]
    steps = plan(found, batch_size=8, epochs=1, seed=3)
    padded = sum(len(batch) * max(found[row] for row in batch) for batch in steps)
    assert padded < 1.1 * sum(found)
    order = [max(found[row] for row in batch) for batch in steps]
    assert order != sorted(order)  # but they come in no order


@settings(max_examples=200, deadline=None)
@given(lengths, st.integers(1, 900), st.data())
def test_micro_batches_respect_the_cap(found: list[int], cap: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(found) - 1), unique=True))
    parts = micro_batches(rows, found, cap)
    assert sorted(row for part in parts for row in part) == sorted(rows)
    for part in parts:
        assert part
        padded = len(part) * max(found[row] for row in part)
        assert padded <= cap or len(part) == 1


def test_micro_batches_by_hand() -> None:
    assert micro_batches([0, 1, 2, 3], [10, 2, 3, 4], 12) == [[1, 2, 3], [0]]
    assert micro_batches([0, 1], [10, 20], 5) == [[0], [1]]
    assert micro_batches([], [10], 5) == []
    with pytest.raises(IndexError):
        micro_batches([1], [10], 5)
