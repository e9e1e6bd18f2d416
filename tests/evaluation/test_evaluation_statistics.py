"""Statistics against scipy, published examples, and simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.evaluation.metrics.f1 import f1
from luthier.evaluation.statistics import (
    detectable_from_deviation,
    expanded_interval,
    expanded_p,
    holm,
    mcnemar_exact,
    minimum_detectable_effect,
    paired_bootstrap,
    paired_interval,
    rows_needed,
    wilson_interval,
)

counts = st.integers(0, 60)


@given(st.integers(1, 500), st.data())
@settings(deadline=None)
def test_wilson_equals_scipy(n, data):
    from scipy.stats import binomtest

    k = data.draw(st.integers(0, n))
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_of_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="not a rate"):
        wilson_interval(3, 2)


@given(counts, counts)
@settings(deadline=None)
def test_mcnemar_equals_the_exact_binomial_test(b, c):
    from scipy.stats import binomtest

    expected = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("cells", "expected", "digits"),
    [
        # Newcombe 1998, Statistics in Medicine 17:2635, method 10
        ((36, 12, 2, 0), (0.0569, 0.3404), 4),
        ((36, 14, 0, 0), (0.1528, 0.4167), 4),
        # Fagerland, Lydersen & Laake 2014, Statistics in Medicine 33:2850 (Bentur's data)
        ((1, 1, 7, 12), (-0.507, -0.026), 3),
    ],
)
def test_paired_interval_of_the_papers(cells, expected, digits):
    assert tuple(round(end, digits) for end in paired_interval(*cells)) == expected


def test_paired_interval_without_correlation_adds_squares():
    """phi = 0 (ad - bc = 0): each end is the square root of a sum of two squared Wilson arms."""
    from scipy.stats import binomtest

    both, b, c, neither = 20, 10, 30, 15
    n = both + b + c + neither
    first, second = (both + b) / n, (both + c) / n
    one, other = (
        binomtest(k, n).proportion_ci(0.95, method="wilson") for k in (both + b, both + c)
    )
    low = first - second - math.hypot(first - one.low, other.high - second)
    high = first - second + math.hypot(one.high - first, second - other.low)
    assert paired_interval(both, b, c, neither) == pytest.approx((low, high))


@given(counts, counts, counts, counts)
@settings(deadline=None)
def test_paired_interval_holds_the_difference_and_turns_around(both, b, c, neither):
    n = both + b + c + neither
    if n == 0:
        return
    low, high = paired_interval(both, b, c, neither)
    assert -1 <= low <= (b - c) / n + 1e-12
    assert (b - c) / n - 1e-12 <= high <= 1
    assert paired_interval(both, c, b, neither) == pytest.approx((-high, -low), abs=1e-12)
    wider = paired_interval(both, b, c, neither, 0.99)
    assert wider[0] <= low + 1e-12
    assert wider[1] >= high - 1e-12


@pytest.mark.parametrize(
    ("n", "rate", "p_d", "d"),
    [(200, 0.8, 0.1, 0.0), (200, 0.85, 0.1, 0.02), (50, 0.7, 0.2, 0.1), (1000, 0.8, 0.1, -0.02)],
)
def test_paired_interval_covers(n, rate, p_d, d):
    rng = np.random.default_rng(0)
    b, c = (p_d + d) / 2, (p_d - d) / 2
    tables = rng.multinomial(n, [rate - b, b, c, 1 - rate - c], size=2000)
    ends = np.array([paired_interval(*map(int, table)) for table in tables])
    below, above = (ends[:, 1] < d).mean(), (ends[:, 0] > d).mean()
    # 2,000 draws: three standard errors of 2.5 % are 1.05 points
    assert below < 0.036
    assert above < 0.036
    assert below + above > 0.02


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_raw_and_bonferroni_and_keeps_order(values):
    adjusted = holm(values)
    for raw, new in zip(values, adjusted, strict=True):
        assert raw <= new <= min(1, raw * len(values)) + 1e-12
    by_raw = [new for _, new in sorted(zip(values, adjusted, strict=True))]
    assert by_raw == sorted(by_raw)


# --- bootstrap


def mean(summed):
    return summed[..., 0] / summed[..., 1]


def with_ones(scores):
    return np.stack([scores, np.ones(len(scores))], axis=1)


def test_bootstrap_standard_error_of_a_mean():
    rng = np.random.default_rng(1)
    one, other = rng.random(150), rng.random(150)
    drawn = paired_bootstrap([with_ones(one), with_ones(other)], mean, seed=3)
    assert drawn.values.shape == (10_000, 2)
    assert drawn.values[:, 0].std() == pytest.approx(one.std() / math.sqrt(150), rel=0.03)
    assert drawn.difference_deviation(0, 1) == pytest.approx(
        (one - other).std() / math.sqrt(150), rel=0.03
    )


def test_bootstrap_is_paired_seeded_and_chunked(monkeypatch):
    from luthier.evaluation import statistics

    scores = np.random.default_rng(0).random(40)
    tables = [with_ones(scores), with_ones(scores - 0.1)]
    drawn = paired_bootstrap(tables, mean, resamples=500, seed=1)
    assert drawn.difference_interval(0, 1) == pytest.approx((0.1, 0.1))
    again = paired_bootstrap(tables, mean, resamples=500, seed=1)
    assert (drawn.values == again.values).all()
    assert (drawn.values != paired_bootstrap(tables, mean, resamples=500, seed=2).values).any()
    monkeypatch.setattr(statistics, "_CHUNK", 700)
    in_pieces = paired_bootstrap(tables, mean, resamples=500, seed=1)
    assert in_pieces.values == pytest.approx(drawn.values)


def test_bootstrap_equals_resampling_by_hand():
    rng = np.random.default_rng(2)
    table = rng.integers(0, 5, size=(30, 3)).astype(float)
    value = lambda summed: f1(summed[..., 0], summed[..., 1], summed[..., 2])  # noqa: E731
    drawn = paired_bootstrap([table], value, resamples=50, seed=9)
    rng = np.random.default_rng(9)
    for i, rows in enumerate(rng.integers(0, 30, size=(50, 30))):
        assert drawn.values[i, 0] == pytest.approx(float(value(table[rows].sum(axis=0))))


def test_p_agrees_with_the_interval():
    rng = np.random.default_rng(4)
    for shift in np.linspace(0, 0.4, 15):
        values = rng.normal(shift, 0.15, 20_000)
        for level in (0.9, 0.95):
            low, high = expanded_interval(values, 40, level)
            # away from the very edge, where quantiles interpolate
            if min(abs(low), abs(high)) > 0.002:
                assert (expanded_p(values, 40) < 1 - level) == (low > 0 or high < 0)
    assert expanded_p(np.zeros(100), 50) == 1
    assert expanded_p(np.ones(10_000), 200) < 0.001


@pytest.mark.parametrize("n", [30, 150])
def test_bootstrap_covers_the_difference_of_a_corpus_metric(n):
    """Micro F1 over rows with few spans: the plain percentile interval misses more at n = 30."""
    rng = np.random.default_rng(n)

    def draw(size):
        wanted, ease = rng.poisson(0.8, size), rng.beta(1.5, 1.5, size)
        first, second = (rng.binomial(wanted, a + b * ease) for a, b in ((0.45, 0.3), (0.3, 0.5)))
        return [
            np.stack([right, rng.poisson(extra, size), wanted - right], axis=1).astype(float)
            for right, extra in ((first, 0.3), (second, 0.4))
        ]

    value = lambda summed: f1(summed[..., 0], summed[..., 1], summed[..., 2])  # noqa: E731
    whole = draw(400_000)
    true = float(value(whole[0].sum(axis=0)) - value(whole[1].sum(axis=0)))
    runs, expanded, plain = 400, 0, 0
    for seed in range(runs):
        drawn = paired_bootstrap(draw(n), value, resamples=800, seed=seed)
        low, high = drawn.difference_interval(0, 1)
        expanded += low <= true <= high
        low, high = np.quantile(drawn.values[:, 0] - drawn.values[:, 1], [0.025, 0.975])
        plain += low <= true <= high
    assert 0.92 <= expanded / runs <= 0.985
    assert expanded >= plain


def test_clusters_widen_the_interval_when_rows_are_alike():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    scores = np.repeat(rng.random(40), 5)
    rows = paired_bootstrap([with_ones(scores)], mean, resamples=4000)
    clustered = paired_bootstrap([with_ones(scores)], mean, resamples=4000, clusters=list(groups))
    assert clustered.units == 40
    # five equal rows in each of 40 groups hold as much as 40 rows: sqrt(5) times the error
    assert clustered.values.std() / rows.values.std() == pytest.approx(math.sqrt(5), rel=0.05)


def test_clusters_keep_the_false_alarm_rate():
    """Two equal arms, rows of a group alike: naive rows see a difference far too often."""
    rng = np.random.default_rng(7)
    naive = clustered = 0
    runs = 200
    groups = [i // 10 for i in range(300)]
    for seed in range(runs):
        shift = np.repeat(rng.normal(0, 0.2, 30), 10)
        one, other = rng.random(300) * 0.2, rng.random(300) * 0.2 + shift
        tables = [with_ones(one), with_ones(other)]
        naive += paired_bootstrap(tables, mean, resamples=400, seed=seed).difference_p(0, 1) < 0.05
        drawn = paired_bootstrap(tables, mean, resamples=400, seed=seed, clusters=groups)
        clustered += drawn.difference_p(0, 1) < 0.05
    assert naive / runs > 0.3
    assert clustered / runs < 0.1


def test_cluster_ids_must_fit():
    with pytest.raises(ValueError, match="cluster ids"):
        paired_bootstrap([with_ones(np.ones(4))], mean, clusters=[1, 2])


# --- power


def test_rows_needed_of_the_paper():
    """Miller 2024: 3 points take about 969 questions where the variance of a row is 1/9.

    His normal formula has no p_d - d^2; McNemar's comes out two questions lower.
    """
    assert rows_needed(0.03, 1 / 9) == pytest.approx(969, abs=3)
    assert detectable_from_deviation(math.sqrt(1 / 9 / 969)) == pytest.approx(0.03, abs=1e-5)


def test_rows_needed_reaches_its_power():
    rng = np.random.default_rng(0)
    d, p_d = 0.06, 0.15
    n = int(rows_needed(d, p_d))
    cells = rng.multinomial(n, [(p_d + d) / 2, (p_d - d) / 2, 1 - p_d], size=1500)
    seen = np.mean([mcnemar_exact(int(b), int(c)) < 0.05 for b, c, _ in cells])
    # the exact test is a little conservative against the formula
    assert 0.74 <= seen <= 0.84


@given(st.integers(20, 5000), st.floats(0.05, 0.9))
@settings(deadline=None)
def test_detectable_effect_inverts_rows_needed(n, p_d):
    d = minimum_detectable_effect(n, p_d)
    assert 0 < d <= 1
    assert rows_needed(d, max(p_d, d)) == pytest.approx(n, abs=2)
    assert minimum_detectable_effect(4 * n, p_d) < d


def test_detectable_effect_at_the_edges():
    # arms that never disagreed are taken to disagree on one row in twenty
    assert minimum_detectable_effect(200, 0.0) == minimum_detectable_effect(200, 0.05)
    assert minimum_detectable_effect(0, 0.1) == 1
    assert minimum_detectable_effect(3, 0.1) == 1
    assert rows_needed(0, 0.1) == math.inf
    assert detectable_from_deviation(0.01) == pytest.approx(0.028, abs=0.0001)
