"""Confidence against what was right, held to a computation by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.evaluation.calibration import calibrate, confidence_of, selective_accuracy
from luthier.evaluation.scoring import ScoringRows, score

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=1, max_size=80)


def by_hand(confidence: list[float], right: list[float]) -> float:
    """Guo et al. 2017, equation 5: a loop over bins (i / 15, (i + 1) / 15]."""
    total = 0.0
    for i in range(15):
        low, high = i / 15, (i + 1) / 15
        inside = [
            (c, r)
            for c, r in zip(confidence, right, strict=True)
            if low < c <= high or (i == 0 and c == 0)
        ]
        if inside:
            sure = sum(c for c, _ in inside) / len(inside)
            good = sum(r for _, r in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(good - sure)
    return total


@given(PAIRS)
def test_ece_is_the_sum_over_fifteen_bins(pairs) -> None:
    confidence, right = [c for c, _ in pairs], [r for _, r in pairs]
    edge = any(abs(c * 15 - round(c * 15)) < 1e-9 for c in confidence)
    if not edge:  # at an edge, rounding chooses the bin
        assert calibrate(confidence, right).ece == pytest.approx(by_hand(confidence, right))


def test_known_values() -> None:
    # bins (0.533, 0.6], (0.867, 0.933]: 2/4 |0.5 - 0.6| + 2/4 |1 - 0.9| = 0.1
    found = calibrate([0.6, 0.6, 0.9, 0.9], [1, 0, 1, 1])
    assert found.ece == pytest.approx(0.1)
    assert [one.n for one in found.bins] == [2, 2]
    assert calibrate([1.0, 1.0], [1, 1]).ece == 0
    assert calibrate([1.0, 1.0], [0, 0]).ece == 1
    assert calibrate([0.0], [0]).ece == 0


@pytest.mark.parametrize("rows", [50, 200, 1000])
def test_what_chance_gives_is_what_a_calibrated_arm_has(rows: int) -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        sure = rng.beta(3, 1.2, rows)
        found.append(calibrate(sure, (rng.random(rows) < sure).astype(float)))
    errors = np.array([one.ece for one in found])
    mean, high = np.mean([one.by_chance for one in found], axis=0)
    assert mean == pytest.approx(errors.mean(), rel=0.15)
    # 3 of 60 are above; more than 9 by chance less than once in a thousand
    assert sum(one.ece > one.by_chance[1] for one in found if one.by_chance) <= 9
    assert high > mean > 0.02
    # an arm that is surer than it is right by a fifth is above it
    sure = rng.uniform(0.7, 1, rows)
    off = calibrate(sure, (rng.random(rows) < sure - 0.3).astype(float))
    assert off.by_chance is not None
    assert off.ece > off.by_chance[1]


def test_what_chance_gives_by_hand_and_where_it_cannot_be_said() -> None:
    # one answer of 0.5: it is off by a half either way
    assert calibrate([0.5], [1]).by_chance == (0.5, 0.5)
    assert calibrate([1.0, 1.0], [0, 0]).by_chance == (0, 0)
    assert calibrate([0.5, 0.5], [0.3, 1.0]).by_chance is None
    assert calibrate([0.5], [1]).to_dict()["ece_by_chance"] == [0.5, 0.5]


def test_it_is_the_metric_of_the_same_name() -> None:
    rng = np.random.default_rng(0)
    chances = rng.dirichlet([0.6, 0.6, 0.6], 300).round(6)
    labels = ("a", "b", "c")
    said = [labels[i] for i in chances.argmax(axis=1)]
    truth = [labels[i] for i in rng.integers(0, 3, 300)]
    rows = ScoringRows(
        kind="classification",
        inputs=truth,
        references=truth,
        predictions=said,
        labels=labels,
        probabilities=[dict(zip(labels, map(float, row), strict=True)) for row in chances],
    )
    right = [float(a == b) for a, b in zip(said, truth, strict=True)]
    found = calibrate(chances.max(axis=1), right)
    assert found.ece == pytest.approx(score("ece", rows).value, abs=1e-9)


@given(PAIRS)
def test_the_curve_ends_at_the_accuracy_and_counts_the_surest_first(pairs) -> None:
    confidence, right = np.array([c for c, _ in pairs]), np.array([r for _, r in pairs])
    curve = selective_accuracy(confidence, right)
    assert curve.shape == (len(pairs),)
    assert curve[-1] == pytest.approx(right.mean())
    surest = right[confidence == confidence.max()]
    assert curve[0] == pytest.approx(surest.mean())
    found = calibrate(confidence, right)
    assert found.area == pytest.approx(curve.mean())
    assert 0 <= found.area <= 1 and found.curve[-1] == (1.0, pytest.approx(right.mean()))
    # the order of rows says nothing
    turned = selective_accuracy(confidence[::-1], right[::-1])
    assert turned == pytest.approx(curve)


@given(PAIRS)
def test_the_surest_four_in_five(pairs) -> None:
    pairs = [(i / len(pairs), r) for i, (_, r) in enumerate(pairs)]  # all different
    kept = math.ceil(0.8 * len(pairs) - 1e-9)
    wanted = sum(r for _, r in sorted(pairs, reverse=True)[:kept]) / kept
    found = calibrate([c for c, _ in pairs], [r for _, r in pairs])
    assert found.kept == pytest.approx(wanted)
    assert found.kept_interval[0] <= found.kept <= found.kept_interval[1]


def test_rows_that_belong_together_count_as_one_for_the_surest() -> None:
    rng = np.random.default_rng(3)
    sure = rng.random(120)
    right = (rng.random(120) < sure).astype(float)
    once = calibrate(sure, right)
    groups = list(np.repeat(np.arange(120), 5))
    naive = calibrate(np.repeat(sure, 5), np.repeat(right, 5))
    held = calibrate(np.repeat(sure, 5), np.repeat(right, 5), groups)
    assert held.kept == pytest.approx(once.kept)
    assert held.kept_interval == pytest.approx(once.kept_interval, abs=0.02)
    width = held.kept_interval[1] - held.kept_interval[0]
    assert width > 1.8 * (naive.kept_interval[1] - naive.kept_interval[0])
    # clusters of one row each change nothing
    assert calibrate(sure, right, range(120)) == once
    # and what is right everywhere is no certainty
    low, high = calibrate([0.9] * 40, [1.0] * 40, [row // 10 for row in range(40)]).kept_interval
    assert low < 0.6 and high == pytest.approx(1)


def test_a_perfect_order_has_the_largest_area() -> None:
    right = [1.0] * 70 + [0.0] * 30
    sure = np.linspace(1, 0, 100)
    best, worst = calibrate(sure, right), calibrate(sure[::-1], right)
    none = calibrate([0.7] * 100, right)
    assert best.area > none.area > worst.area
    assert none.area == pytest.approx(0.7) and none.ece == pytest.approx(0)
    assert best.kept == pytest.approx(70 / 80)


@pytest.mark.parametrize(
    ("row", "sure"),
    [
        ({"prediction": "a", "probabilities": {"a": 0.3, "b": 0.7}}, 0.3),
        ({"prediction": "a", "confidence": 0.9, "probabilities": {"a": 0.3}}, 0.9),
        ({"prediction": "c", "probabilities": {"a": 0.3}}, None),
        ({"prediction": "a"}, None),
        ({"prediction": "a", "confidence": 1.5}, None),
        ({"prediction": "a", "confidence": True}, None),
        ({"prediction": "a", "confidence": float("nan")}, None),
    ],
)
def test_what_a_row_says_of_its_answer(row, sure) -> None:
    assert confidence_of(row) == sure


def test_nothing_to_calibrate_is_refused() -> None:
    with pytest.raises(ValueError):
        calibrate([], [])
    with pytest.raises(ValueError):
        calibrate([0.5], [1, 0])
