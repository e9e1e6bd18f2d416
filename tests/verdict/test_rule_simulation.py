"""What the verdict promises, held in thousands of synthetic tests whose truth is known.

The worlds here are those where a rule is most likely to err; `benchmarks/evaluation.py rule` draws
more of them, longer. Seeds are fixed, and each bound is the promise and three standard errors.
"""

import math

import numpy as np
import pytest

from luthier.verdict.simulation import World, draw, simulate


def bound(promise, runs):
    return promise + 3 * math.sqrt(promise * (1 - promise) / runs)


def covers(share, runs, most=0.97):
    """Whether a share of intervals is within 93 and 97 %, give or take two standard errors."""
    error = math.sqrt(0.05 * 0.95 / runs)
    return 0.93 - 2 * error <= share <= most + 2 * error


@pytest.mark.parametrize("graded", [False, True])
def test_worlds_are_as_they_say(graded):
    world = World((0.8, 0.6), 60_000, graded=graded, shared=0.6, group=5, grouped=0.5, floor=0.3)
    scores = draw(world, np.random.default_rng(0))
    assert scores.shape == (3, 60_000)
    assert scores.mean(axis=1) == pytest.approx([0.8, 0.6, 0.3], abs=0.01)
    between = scores[0].reshape(-1, 5).mean(axis=1)
    assert between.var() > 1.5 * scores[0].var() / 5  # rows of a group are alike
    assert np.corrcoef(scores)[0, 1] > 0.3  # and so are arms
    assert set(np.unique(scores)) == {0, 1} or graded


EQUAL = [World((0.8,) * arms, shared=shared) for arms in (2, 4, 10) for shared in (0.3, 0.9)]
DIFFERENT = [
    # a hair more than the margin behind
    World((0.8, 0.779)),
    World((0.8,) + (0.779,) * 4),
    World((0.8,) + (0.779,) * 9, rows=500),
    World((0.9, 0.88, 0.87, 0.85), shared=0.9),
    # a margin that is large against the noise, where 95 % intervals would be too narrow
    World((0.8,) + (0.5999,) * 5, rows=1000, margin=0.2),
    World((0.8,) + (0.6,) * 3),
]


@pytest.mark.parametrize("world", EQUAL + DIFFERENT, ids=str)
def test_right_or_wrong_rows(world):
    runs = 500
    outcome = simulate(world, runs, seed=3)
    assert outcome.wrong <= bound(0.05, runs)
    assert outcome.false_better <= bound(0.05, runs)
    assert covers(outcome.covers_score, runs)
    # arms that hardly ever disagree have intervals that are wide, as there is little to count
    assert covers(outcome.covers_difference, runs, 0.97 if world.shared < 0.9 else 0.99)


@pytest.mark.parametrize(
    ("world", "runs"),
    [
        (World((0.8,) * 4, rows=300, group=6, grouped=0.4), 500),
        (World((0.8, 0.779, 0.779), rows=300, group=6, grouped=0.4), 500),
        (World((0.6,) * 3, graded=True), 300),
        (World((0.6, 0.579, 0.579), graded=True, shared=0.9), 300),
        (World((0.6,) * 3, rows=240, graded=True, group=6, grouped=0.5), 400),
    ],
    ids=str,
)
def test_groups_of_rows_and_graded_rows(world, runs):
    outcome = simulate(world, runs, seed=3, resamples=600)
    assert outcome.wrong <= bound(0.05, runs)
    assert outcome.false_better <= bound(0.05, runs)
    assert covers(outcome.covers_score, runs)
    assert covers(outcome.covers_difference, runs)


@pytest.mark.parametrize("arms", [1, 3, 10])
def test_no_arm_is_deployed_for_a_lead_it_does_not_have(arms):
    """As good as the floor, all of them, and a margin that lets any of them through."""
    runs = 500
    outcome = simulate(World((0.7,) * arms, 2000, margin=0.05, floor=0.7), runs, seed=3)
    assert outcome.false_lead <= bound(0.025, runs)
    assert outcome.false_better <= bound(0.05, runs)


def test_large_differences_are_seen():
    outcome = simulate(World((0.9, 0.7, 0.6), floor=0.3), 200, seed=3)
    assert outcome.deployed > 0.95 and outcome.wrong == 0


def test_rows_of_a_group_taken_as_independent_would_break_the_promise():
    """The same rows, their groups not told: differences are seen that are not there."""
    grouped = World((0.8,) * 2, rows=300, group=15, grouped=0.8, shared=0.3)
    told = simulate(grouped, 300, seed=3, resamples=500)
    rng = np.random.default_rng(3)
    from luthier.evaluation.statistics import mcnemar_exact

    false = 0
    for _ in range(300):
        one, other = draw(grouped, rng) > 0.5
        false += mcnemar_exact(int((one & ~other).sum()), int((other & ~one).sum())) < 0.05
    assert false / 300 > 0.15
    assert told.false_better < 0.11  # 20 groups: said to be rough, and better by far
