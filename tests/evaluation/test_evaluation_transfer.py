"""The matrix of sequential tuning and what it comes to, against numbers found by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from luthier.evaluation.scoring import METRICS
from luthier.evaluation.transfer import (
    FORMULAS,
    Column,
    accuracy,
    backward,
    fill,
    forgotten,
    forward,
    sums,
    transfer,
)

#: Rows: base, stage 1, 2, 3. Columns: task 1, 2, 3.
R = np.array(
    [
        [0.20, 0.10, 0.30],
        [0.90, 0.30, 0.40],
        [0.60, 0.80, 0.50],
        [0.70, 0.75, 0.95],
    ]
)
CHANCE = [0.5, 0.25, 0.2]


def test_the_four_sums_of_a_matrix_by_hand() -> None:
    found = {name: float(value) for name, value in sums(R, CHANCE).items()}
    assert found == {
        "accuracy": pytest.approx((0.70 + 0.75 + 0.95) / 3),
        # after the last stage less after its own: 0.70 - 0.90 and 0.75 - 0.80
        "backward_transfer": pytest.approx((-0.20 - 0.05) / 2),
        # the best before the last stage less after it: 0.90 - 0.70 and 0.80 - 0.75
        "forgetting": pytest.approx((0.20 + 0.05) / 2),
        # before its own stage less chance: 0.30 - 0.25 and 0.50 - 0.20
        "forward_transfer": pytest.approx((0.05 + 0.30) / 2),
    }
    assert found.keys() == FORMULAS.keys()


def test_the_terms_of_every_task_by_hand() -> None:
    assert backward(R) == pytest.approx([-0.20, -0.05, 0.0])
    assert forgotten(R) == pytest.approx([0.20, 0.05, 0.5 - 0.95])
    assert forward(R, CHANCE) == pytest.approx([0.2 - 0.5, 0.3 - 0.25, 0.5 - 0.2])


def test_what_the_base_could_do_can_be_forgotten_too() -> None:
    scores = np.array([[0.9, 0.0], [0.5, 0.0], [0.4, 1.0]])
    assert float(sums(scores, [0, 0])["forgetting"]) == pytest.approx(0.5)
    assert float(sums(scores, [0, 0])["backward_transfer"]) == pytest.approx(-0.1)


def test_a_stage_without_a_test_of_its_own_has_a_row_and_no_column() -> None:
    # the second of the three stages was raw text
    scores, own, chance = R[:, [0, 2]], [1, 3], [0.5, 0.2]
    found = {name: float(value) for name, value in sums(scores, chance, own).items()}
    assert found == {
        "accuracy": pytest.approx((0.70 + 0.95) / 2),
        "backward_transfer": pytest.approx(0.70 - 0.90),
        "forgetting": pytest.approx(0.90 - 0.70),
        "forward_transfer": pytest.approx(0.50 - 0.20),
    }
    # raw text first: the one task had something before it, and nothing after it
    assert sums(R[:3, [2]], [0.2], [2]).keys() == {"accuracy", "forward_transfer"}


def test_one_stage_has_an_accuracy_and_nothing_to_transfer() -> None:
    assert sums(np.array([[0.1], [0.7]]), [0.5]).keys() == {"accuracy"}


MATRICES = st.integers(2, 5).flatmap(
    lambda t: hnp.arrays(np.float64, (t + 1, t), elements=st.floats(0, 1))
)


@given(MATRICES)
def test_what_must_hold_of_any_matrix(scores: np.ndarray) -> None:
    stages = scores.shape[1]
    chance = [0.0] * stages
    found = {name: float(value) for name, value in sums(scores, chance).items()}
    assert 0 <= found["accuracy"] <= 1
    assert -1 <= found["backward_transfer"] <= 1
    # a task's own stage is one of those whose best is taken
    assert found["forgetting"] >= -found["backward_transfer"] - 1e-12
    assert found["forward_transfer"] >= 0
    # adding a constant moves only what is no difference
    moved = {name: float(value) for name, value in sums(scores + 1, chance).items()}
    assert moved["accuracy"] == pytest.approx(found["accuracy"] + 1)
    assert moved["backward_transfer"] == pytest.approx(found["backward_transfer"])
    assert moved["forgetting"] == pytest.approx(found["forgetting"])
    assert float(sums(scores, [1.0] * stages)["forward_transfer"]) == pytest.approx(
        found["forward_transfer"] - 1
    )
    # a stack of matrices is summed up one by one
    stack = np.stack([scores, scores + 1])
    assert float(accuracy(stack)[1]) == pytest.approx(moved["accuracy"])


def right(rates: list[float], n: int = 40) -> list[np.ndarray]:
    """Answers of which these shares are right, as accuracy counts them."""
    made = []
    for rate in rates:
        scores = np.arange(n) < round(rate * n)
        made.append(np.stack([scores.astype(float), np.ones(n)], axis=-1))
    return made


def columns() -> list[Column]:
    metric = METRICS.get("accuracy")
    return [
        Column(name, metric, right(list(R[:, j])), CHANCE[j], j + 1)
        for j, name in enumerate(["general", "medical", "target"])
    ]


def test_a_matrix_is_filled_from_answers_with_wilson_intervals() -> None:
    filled = fill(columns(), resamples=500)
    assert filled.scores == pytest.approx(R)
    # Wilson's interval of 36 in 40
    assert filled.intervals[1][0] == pytest.approx((0.7695, 0.9604), abs=1e-3)
    found = transfer(columns(), filled)
    assert [term.task for term in found.terms] == ["general", "medical", "target"]
    assert found.terms[1].over_base == pytest.approx(0.3 - 0.1)
    for name, value in sums(R, CHANCE).items():
        point, (low, high) = found.sums[name]
        assert point == pytest.approx(float(value))
        assert low < point < high
    plain = found.to_dict()
    assert plain["summary"]["forgetting"]["formula"] == FORMULAS["forgetting"]


def test_the_rows_of_a_test_are_resampled_together_for_all_stages() -> None:
    metric = METRICS.get("accuracy")
    same = right([0.5])[0]
    pair = [
        Column(name, metric, [same, same, same], 0.0, stage) for stage, name in ((1, "a"), (2, "b"))
    ]
    found = transfer(pair, fill(pair, resamples=200))
    # a model that never changes forgets nothing, whatever rows are drawn
    assert found.sums["forgetting"] == (0.0, (0.0, 0.0))
    assert found.sums["backward_transfer"] == (0.0, (0.0, 0.0))
    low, high = found.sums["accuracy"][1]
    assert high - low > 0.1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 100))
def test_it_is_the_same_every_time(seed: int) -> None:
    one, two = (fill(columns(), seed=seed, resamples=50) for _ in range(2))
    assert np.array_equal(one.drawn, two.drawn)


def test_a_matrix_that_is_not_whole_is_not_summed_up() -> None:
    some = [Column(c.task, c.metric, list(c.answers)[:2], c.chance, c.stage) for c in columns()]
    filled = fill(some, resamples=50)
    assert filled.scores.shape == (2, 3)
    with pytest.raises(ValueError, match="2 rows are no matrix of the stages"):
        transfer(some, filled)
    with pytest.raises(ValueError, match="same stages"):
        fill([some[0], columns()[1]], resamples=50)
