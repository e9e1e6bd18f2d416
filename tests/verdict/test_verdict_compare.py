"""Comparing arms: which interval and which p each metric gets, and that pairs are consistent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.evaluation.scoring import METRICS
from luthier.evaluation.statistics import holm, mcnemar_exact, paired_interval, wilson_interval
from luthier.verdict.compare import ArmResult, compare, floor_level, joint_level

ACCURACY = METRICS.get("accuracy")
TOKEN_F1 = METRICS.get("f1")


def arm(name, scores, **more):
    scores = np.asarray(scores, dtype=float)
    return ArmResult(name, np.stack([scores, np.ones(len(scores))], axis=1), scores, **more)


def test_right_or_wrong_gets_closed_forms():
    one = arm("one", [1] * 60 + [1] * 20 + [0] * 5 + [0] * 15)
    other = arm("other", [1] * 60 + [0] * 20 + [1] * 5 + [0] * 15)
    compared = compare([one, other], ACCURACY)
    assert compared.arm("one").score == 0.8
    assert compared.arm("one").interval == wilson_interval(80, 100)
    pair = compared.pairs["one", "other"]
    assert pair.difference == pytest.approx(0.15)
    assert pair.interval == paired_interval(60, 20, 5, 15)
    assert pair.joint_interval == pair.interval
    assert pair.p == mcnemar_exact(20, 5)
    assert pair.discordance == 0.25
    assert pair.error == pytest.approx(np.sqrt((0.25 - 0.15**2) / 100))
    assert compared.best == "one"


@given(st.integers(2, 5), st.integers(0, 2**31), st.sampled_from([ACCURACY, TOKEN_F1]))
@settings(max_examples=30, deadline=None)
def test_pairs_are_consistent(count, seed, metric):
    rng = np.random.default_rng(seed)
    scores = rng.random((count, 25))
    if metric.binary:
        scores = (scores < rng.random((count, 1))).astype(float)
    arms = [arm(f"a{i}", row) for i, row in enumerate(scores)]
    compared = compare(arms, metric, resamples=300)
    for (first, second), pair in compared.pairs.items():
        back = compared.pairs[second, first]
        assert pair.difference == -back.difference
        assert pair.interval == (-back.interval[1], -back.interval[0])
        assert pair.interval[0] - 1e-9 <= pair.difference <= pair.interval[1] + 1e-9 or (
            not metric.binary
        )
        assert pair.joint_interval[0] <= pair.interval[0] + 1e-12
        assert pair.joint_interval[1] >= pair.interval[1] - 1e-12
        assert 0 <= pair.p <= 1
        assert pair.difference == pytest.approx(
            compared.arm(first).score - compared.arm(second).score
        )
    best = compared.best
    assert compared.arm(best).score == max(a.score for a in compared.arms)
    # every pair could have been the one between the best and another
    pairs = [(a.name, b.name) for i, a in enumerate(arms) for b in arms[i + 1 :]]
    adjusted = dict(zip(pairs, holm([compared.pairs[pair].p for pair in pairs]), strict=True))
    assert compared.p_adjusted == {
        other: p for pair, p in adjusted.items() if best in pair for other in pair if other != best
    }


def test_other_metrics_and_clusters_are_resampled():
    rng = np.random.default_rng(0)
    scores = rng.random(120)
    arms = [arm("one", scores), arm("other", scores - 0.05 + 0.02 * rng.random(120))]
    rows = compare(arms, TOKEN_F1, seed=1)
    assert "bootstrap over rows" in rows.method
    assert rows.pairs["one", "other"].discordance is None
    assert rows.pairs["one", "other"].interval == pytest.approx((0.039, 0.041), abs=0.002)
    assert compare(arms, TOKEN_F1, seed=1).pairs == rows.pairs
    right = [arm("one", scores > 0.3), arm("other", scores > 0.4)]
    groups = [i // 4 for i in range(120)]
    clustered = compare(right, ACCURACY, clusters=groups)
    assert "clusters" in clustered.method
    assert clustered.units == 30
    assert "McNemar" in compare(right, ACCURACY, clusters=list(range(120))).method


def test_corpus_metric_is_compared_as_a_corpus_metric():
    from luthier.evaluation.scoring import ScoringRows, score

    references = ["a b c d e", "f g h i j", "k l m n o"] * 8
    answers = {"copy": references, "part": [r[:5] + " x y" for r in references]}
    bleu = {
        name: score(
            "bleu",
            ScoringRows(
                kind="translation", inputs=references, references=references, predictions=texts
            ),
        )
        for name, texts in answers.items()
    }
    compared = compare(
        [ArmResult(name, s.statistics, s.row_scores) for name, s in bleu.items()],
        METRICS.get("bleu"),
        resamples=200,
    )
    assert compared.arm("copy").score == pytest.approx(1)
    assert compared.arm("part").score == pytest.approx(bleu["part"].value)


def test_failed_arms_are_kept_and_not_compared():
    compared = compare([arm("a", [1, 0]), ArmResult("b", None, failed="no memory")], ACCURACY)
    assert compared.arm("b").score is None
    assert compared.pairs == {}
    assert compared.best == "a"
    assert compare([ArmResult("b", None, failed="no memory")], ACCURACY).best is None
    assert compare([ArmResult("b", None, failed="no memory")], TOKEN_F1).best is None


def test_joint_level():
    assert [round(joint_level(m), 4) for m in (1, 2, 3, 4, 6)] == [0.95, 0.95, 0.95, 0.9667, 0.98]


def test_leads_over_a_floor_have_intervals_of_their_own_level():
    assert [round(floor_level(m), 4) for m in (1, 2, 5, 10)] == [0.95, 0.975, 0.99, 0.995]
    right = [1] * 60 + [0] * 40
    arms = [arm("majority", right[::-1], floor=True), arm("one", right), arm("other", right)]
    compared = compare(arms, ACCURACY)
    lead, between = compared.pairs["one", "majority"], compared.pairs["one", "other"]
    assert lead.joint_interval == paired_interval(20, 40, 40, 0, 0.975)
    assert between.joint_interval == between.interval
    assert (compared.joint_level, compared.floor_level) == (0.95, 0.975)


def test_misuse():
    with pytest.raises(ValueError, match="share a name"):
        compare([arm("a", [1]), arm("a", [0])], ACCURACY)
    with pytest.raises(ValueError, match="different rows"):
        compare([arm("a", [1]), arm("b", [0, 1])], ACCURACY)
