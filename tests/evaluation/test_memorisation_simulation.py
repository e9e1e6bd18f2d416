"""Of models that learned no row by heart at most one in twenty is accused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from learned_by_heart import Training, audited

from luthier.evaluation.memorisation import membership
from luthier.evaluation.memorisation.extraction import HALF

#: One pass over clean rows, from few features to more than there are tokens, each at rates from
#: one that hardly moves the model up to the highest at which it gets better at held-out rows.
CLEAN = [
    Training(features, rate, canaries=8)
    for features, rates in ((20, (0.03, 0.3, 1.0)), (50, (0.03, 0.3)), (150, (0.03, 0.1)))
    for rate in rates
]
#: Models of each kind.
RUNS = 40


def said_of(training: Training, runs: int = RUNS) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [audited(training, rng) for _ in range(runs)]


@pytest.fixture(scope="module")
def clean() -> dict[Training, list[dict[str, Any]]]:
    return {training: said_of(training) for training in CLEAN}


# ---- the whole decision ------------------------------------------------------------------------


def test_one_pass_over_clean_rows_is_seldom_accused(
    clean: dict[Training, list[dict[str, Any]]],
) -> None:
    """All tests together, among them canaries that were not planted and values of single rows."""
    for training, said in clean.items():
        verdicts = Counter(one["memorised"] for one in said)
        # 2 of 40 are 5 %; more than 6 come by chance less than once in two hundred
        assert verdicts["yes"] <= 6, training
        assert verdicts["no"] >= 0.8 * RUNS, training
    # over all kinds: 5 % of 280, and what chance adds once in a thousand
    assert sum(one["memorised"] == "yes" for said in clean.values() for one in said) <= 26
    assert {len(one["tests"]) for said in clean.values() for one in said} == {4}


def test_rows_are_told_apart_after_one_pass_however_little_was_learned(
    clean: dict[Training, list[dict[str, Any]]],
) -> None:
    """Why neither a significant AUC nor a large one accuses."""
    for training, said in clean.items():
        tests = [one["tests"]["membership"] for one in said]
        assert np.mean([one["attacks"]["reference"]["auc"] for one in tests]) > 0.85, training
        assert sum(one["apart"] < 0.05 for one in tests) >= 0.9 * RUNS, training
        assert np.mean([one["known"]["share"] for one in tests]) < 0.1, training
        assert any("can be told" in reason for one in said for reason in one["reasons"])


@pytest.mark.parametrize("name", ["canaries", "extraction", "pii", "membership"])
def test_each_test_keeps_its_level(clean: dict[Training, list[dict[str, Any]]], name: str) -> None:
    values = [one["tests"][name]["p"] for said in clean.values() for one in said]
    assert sum(value is not None and value < 0.05 for value in values) <= 26
    assert sum(value is not None for value in values) > 0.95 * len(values)


def test_one_pass_writes_rows_that_it_does_not_know(
    clean: dict[Training, list[dict[str, Any]]],
) -> None:
    """Or the level of `extraction` would be kept by there being nothing to extract."""
    tests = [one["tests"]["extraction"] for said in clean.values() for one in said]
    assert sum(one["extracted"] > one["before"] for one in tests) >= 10


def test_a_secret_that_stands_eight_times_is_caught() -> None:
    said = said_of(Training(150, 0.3, epochs=3, secrets=1))
    caught = [one for one in said if one["memorised"] == "yes"]
    assert len(caught) >= 0.95 * RUNS
    # by what was written, not by the other rows, of which half is not known
    assert all(one["tests"]["membership"]["p"] > 0.05 for one in said)


def test_planted_secrets_are_caught_after_one_pass() -> None:
    said = said_of(replace(CLEAN[-1], planted=True))
    assert sum(one["tests"]["canaries"]["p_adjusted"] < 0.05 for one in said) >= 0.95 * RUNS


@pytest.mark.parametrize(("features", "rate"), [(150, 0.5), (600, 1.0)])
def test_rows_that_were_read_many_times_are_caught_by_each_test(features: int, rate: float) -> None:
    for one in said_of(Training(features, rate, epochs=15), runs=10):
        assert one["memorised"] == "yes"
        for name in ("extraction", "pii", "membership"):
            assert one["tests"][name]["p_adjusted"] < 0.05, name


# ---- membership --------------------------------------------------------------------------------


def test_the_largest_auc_of_attacks_that_are_alike_keeps_its_level() -> None:
    rng = np.random.default_rng(2)
    found = []
    for run in range(300):
        # four attacks that see much the same, one that sees something else, numbers with ties
        same, other = rng.normal(size=60), rng.normal(size=60)
        attacks = [*(np.round(same + 0.2 * rng.normal(size=60), 1) for _ in range(4)), other]
        members, others = ([one[part] for one in attacks] for part in (slice(25), slice(25, 60)))
        found.append(membership.largest_auc_p(members, others, seed=run))
    p = np.array(found)
    assert (p < 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert 0.4 < np.median(p) < 0.6


def skewed(rng: np.random.Generator, mean: float, count: int) -> Any:
    """Surprise of rows: most have little, few have much."""
    return -mean * rng.gamma(1.5, 1 / 1.5, count)


@pytest.mark.parametrize(("members", "others"), [(20, 20), (100, 30), (40, 100)])
def test_half_of_the_bits_is_a_bound_that_keeps_its_level(members: int, others: int) -> None:
    """Just half of the surprise is left, the least favourable case."""
    rng = np.random.default_rng(3)
    p = [
        membership.known(
            skewed(rng, (1 - HALF) * 2.0, members),
            skewed(rng, 2.0, others),
            skewed(rng, 5.0, others),
        )["p"]
        for _ in range(1000)
    ]
    assert sum(value < 0.05 for value in p) <= 72  # 50, and what chance adds once in a thousand


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_the_interval_of_what_is_known_covers(share: float) -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(500):
        found = membership.known(
            skewed(rng, (1 - share) * 2.0, 60), skewed(rng, 2.0, 60), skewed(rng, 5.0, 60)
        )
        low, high = found["interval"]
        held += low <= share <= high
    assert 0.92 * 500 <= held <= 0.98 * 500


@pytest.mark.parametrize(("shift", "count"), [(0.0, 30), (0.5, 40), (1.5, 100)])
def test_the_interval_of_an_auc_covers(shift: float, count: int) -> None:
    true = NormalDist().cdf(shift / np.sqrt(2))
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(500):
        members, others = rng.normal(shift, 1, count), rng.normal(0, 1, count)
        low, high = membership.auc_interval(membership.auc(members, others), count, count)
        held += low <= true <= high
    assert held >= 0.93 * 500


@pytest.mark.parametrize(("shift", "count"), [(0.5, 100), (2.0, 100), (1.5, 600)])
def test_the_interval_of_true_positives_allows_for_the_bar(shift: float, count: int) -> None:
    true = 1 - NormalDist(shift).cdf(NormalDist().inv_cdf(0.99))
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        low, high = membership.true_positives_interval(
            rng.normal(shift, 1, count), rng.normal(0, 1, count)
        )
        held += low <= true <= high
        assert count >= 436 or low == 0
    assert held >= 0.95 * 400
