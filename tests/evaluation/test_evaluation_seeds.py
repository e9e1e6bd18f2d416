"""Several training seeds: the mean over them, and intervals that count what seeds leave open."""

import numpy as np
import pytest

from luthier.evaluation.scoring import METRICS
from luthier.evaluation.seeds import mean_over_seeds, seed_deviation
from luthier.evaluation.statistics import expanded_interval, paired_bootstrap
from luthier.verdict.compare import ArmResult, compare

ACCURACY, TOKEN_F1 = METRICS.get("accuracy"), METRICS.get("f1")


def mean(summed):
    return summed[..., 0] / summed[..., 1]


def tables(scores):
    """(..., n) scores as (..., n, 2) statistics."""
    return np.stack([scores, np.ones_like(scores)], axis=-1)


def trained(rng, n, seeds, spread, noise):
    """Scores of one arm, (seeds, n): rows differ in ease, seeds in skill, and both together."""
    ease = rng.normal(0.6, 0.25, n)
    return ease + rng.normal(0, spread, (seeds, 1)) + rng.normal(0, noise, (seeds, n))


def test_equal_seeds_are_one_seed():
    scores = np.random.default_rng(0).random(60)
    one = paired_bootstrap([tables(scores)], mean, resamples=300, seed=4)
    three = paired_bootstrap([tables(np.stack([scores] * 3))], mean, resamples=300, seed=4)
    assert three.values.shape == (300, 1)
    assert three.values == pytest.approx(one.values)


def test_deviation_between_seeds_without_what_rows_add():
    rng = np.random.default_rng(1)
    found, naive = [], []
    for seed in range(150):
        scores = trained(rng, 200, 5, 0.03, 0.4)
        drawn = [np.stack([s, np.ones(200)], axis=1) for s in scores]
        values = paired_bootstrap(drawn, mean, resamples=200, seed=seed).values
        found.append(seed_deviation(scores.mean(axis=1), values) ** 2)
        naive.append(scores.mean(axis=1).var(ddof=1))
    # between means of 200 rows lies 0.03^2 of seeds and 0.4^2 / 200 of rows
    assert np.mean(naive) == pytest.approx(0.03**2 + 0.4**2 / 200, rel=0.15)
    assert np.mean(found) == pytest.approx(0.03**2, rel=0.25)
    assert seed_deviation(np.array([0.7]), np.ones((10, 1))) == 0


def coverage(n, seeds, spread, noise, runs=200):
    """Shares of intervals that hold the truth: of one arm, of the difference of two equal ones."""
    rng = np.random.default_rng(5)
    held = np.zeros(2)
    for run in range(runs):
        one, other = (trained(rng, n, seeds, spread, noise) for _ in range(2))
        drawn = paired_bootstrap([tables(one), tables(other)], mean, resamples=300, seed=run)
        low, high = drawn.interval(0)
        held[0] += low <= 0.6 <= high
        low, high = drawn.difference_interval(0, 1)
        held[1] += low <= 0 <= high
    return held / runs


@pytest.mark.parametrize(
    ("seeds", "spread", "noise"), [(3, 0.0, 0.2), (5, 0.02, 0.2), (3, 0.1, 0.1), (5, 0.1, 0.1)]
)
def test_intervals_cover(seeds, spread, noise):
    # three standard errors of 95 % in 200 runs are 4.6 points; few seeds err on the wide side
    assert min(coverage(100, seeds, spread, noise)) > 0.904


def test_drawing_three_seeds_as_rows_are_drawn_covers_too_little():
    rng = np.random.default_rng(5)
    held = 0
    for run in range(200):
        scores = tables(trained(rng, 100, 3, 0.1, 0.1))
        each = paired_bootstrap(list(scores), mean, resamples=300, seed=run).values
        chosen = rng.integers(0, 3, (300, 3))
        low, high = expanded_interval(np.take_along_axis(each, chosen, 1).mean(axis=1), 100)
        held += low <= 0.6 <= high
    assert held / 200 < 0.88


def test_one_seed_covers_too_little_where_seeds_differ():
    rng = np.random.default_rng(3)
    held = 0
    for run in range(200):
        scores = trained(rng, 100, 1, 0.1, 0.1)
        drawn = paired_bootstrap([tables(scores[0])], mean, resamples=300, seed=run)
        low, high = drawn.interval(0)
        held += low <= 0.6 <= high
    assert held / 200 < 0.7


def test_draws_depend_on_the_seed_alone():
    scores = trained(np.random.default_rng(0), 50, 3, 0.05, 0.1)
    one, again, other = (
        paired_bootstrap([tables(scores)], mean, resamples=100, seed=s).values for s in (1, 1, 2)
    )
    assert (one == again).all() and (one != other).any()
    flat = np.full((100, 3), 0.5)
    rng = np.random.default_rng(0)
    assert (mean_over_seeds(np.full(3, 0.5), flat, rng) == 0.5).all()


def test_compare_takes_arms_of_several_seeds_beside_others():
    rng = np.random.default_rng(2)
    right = (rng.random((3, 200)) < np.array([[0.8], [0.84], [0.76]])).astype(float)
    probe = (rng.random(200) < 0.6).astype(float)
    arms = [ArmResult("lora", tables(right)), ArmResult("probe", tables(probe))]
    compared = compare(arms, ACCURACY, resamples=500)
    assert compared.arm("lora").score == pytest.approx(right.mean())
    assert compared.n == 200
    assert "training seeds" in compared.method
    low, high = compared.arm("lora").interval
    alone = compare([ArmResult("lora", tables(right[0]))], ACCURACY).arm("lora").interval
    assert low < right.mean() < high and high - low > 0.5 * (alone[1] - alone[0])
    assert compared.pairs["lora", "probe"].difference == pytest.approx(right.mean() - probe.mean())
    # one seed is no different from none
    one = [ArmResult("lora", tables(right[:1])), ArmResult("probe", tables(probe))]
    assert "McNemar" in compare(one, ACCURACY).method


def test_a_corpus_metric_is_computed_for_each_seed():
    rng = np.random.default_rng(4)
    table = rng.integers(1, 5, (3, 40, 2)).astype(float)
    compared = compare([ArmResult("lora", table)], TOKEN_F1, resamples=200)
    each = [float(table[s, :, 0].sum() / table[s, :, 1].sum()) for s in range(3)]
    assert compared.arm("lora").score == pytest.approx(np.mean(each))
