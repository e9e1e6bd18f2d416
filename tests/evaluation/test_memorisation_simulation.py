"""Of models that learned no row by heart at most one in twenty is accused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from luthier.evaluation.memorisation import canaries as planting
from luthier.evaluation.memorisation import extraction, membership
from luthier.evaluation.memorisation.extraction import Target
from luthier.evaluation.memorisation.judging import judge
from luthier.evaluation.token_likelihood import TokenScores

RUNS = 200
#: How many of `RUNS` may be accused: 5 % of them, and what chance adds once in a thousand times.
MOST = 20


def row(rng: np.random.Generator, gain: float) -> tuple[TokenScores, TokenScores, Target]:
    """A row whose tokens are drawn from what a perfect model of the task knows.

    At each place one token is likely and the others share the rest; the tuned model knows how
    likely, the untuned one less well. `gain` is what the tuned model has over that on rows that it
    was trained on, in nats a token.
    """
    count = int(rng.integers(3, 40))
    sure = np.clip(rng.beta(4, 1, count), 0.02, 0.98)
    likely = rng.random(count) < sure
    # a token that is not the likely one is one of fifty
    log = np.where(likely, np.log(sure), np.log((1 - sure) / 50))
    mean = sure * np.log(sure) + (1 - sure) * np.log((1 - sure) / 50)
    deviation = np.sqrt(sure * (1 - sure)) * np.abs(np.log(sure) - np.log((1 - sure) / 50))
    tuned = TokenScores(np.minimum(log + gain, -1e-4), mean, deviation, likely)
    flat = sure**0.5 / (sure**0.5 + 50 * ((1 - sure) / 50) ** 0.5)
    base_log = np.where(likely, np.log(flat), np.log((1 - flat) / 50))
    base = TokenScores(base_log, mean, deviation, likely & (flat > 0.5))
    target = Target(
        -base_log / np.log(2),
        -tuned.logprob / np.log(2),
        np.ones(count, dtype=bool),
        bool(likely.all()),
        bool(base.greedy.all()),
    )
    return tuned, base, target


def measured_on(rng: np.random.Generator, gain: float, count: int = 40) -> dict[str, Any]:
    members = [row(rng, gain) for _ in range(count)]
    others = [row(rng, 0.0) for _ in range(count)]
    numbers = [
        membership.attacks([r[0] for r in part], [r[1] for r in part], ["text"] * count)
        for part in (members, others)
    ]
    losses = [np.array([membership.loss(r[1]) for r in part]) for part in (members, others)]
    planted = planting.make_canaries(8, int(rng.integers(1000)))
    return {
        "canaries": planting.exposed(
            planted, [planting.chance(one[0], one[1:]) for one in rng.normal(size=(8, 1000))]
        ),
        "extraction": extraction.extracted([r[2] for r in members], [r[2] for r in others]),
        "membership": membership.told_apart(numbers[0], numbers[1], (losses[0], losses[1])),
    }


@pytest.fixture(scope="module")
def made() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [measured_on(rng, gain=0.0) for _ in range(RUNS)]


def test_members_and_others_of_one_source_are_seldom_accused(made: list[dict[str, Any]]) -> None:
    accused = sum(judge(tests)["memorised"] == "yes" for tests in made)
    assert accused <= MOST
    # and the simulation is no empty one: rows do match, and the tests see differences
    assert sum(tests["extraction"]["extracted"] for tests in made) > RUNS


@pytest.mark.parametrize("name", ["canaries", "extraction", "membership"])
def test_each_test_keeps_its_level(made: list[dict[str, Any]], name: str) -> None:
    values = [tests[name]["p"] for tests in made]
    assert sum(value is not None and value < 0.05 for value in values) <= MOST


def test_a_model_that_is_far_surer_of_its_rows_is_caught() -> None:
    rng = np.random.default_rng(1)
    caught = sum(judge(measured_on(rng, 3.0, 80))["memorised"] == "yes" for _ in range(50))
    assert caught >= 45


def test_at_the_bound_of_what_one_pass_leaves_membership_keeps_its_level() -> None:
    """Rows told apart with an AUC of just 0.8 are the least favourable case."""
    rng = np.random.default_rng(2)
    shift = 1.1902  # sqrt(2) times the normal quantile of 0.8
    accused = 0
    for _ in range(1000):
        members, others = rng.normal(shift, 1, 80), rng.normal(0, 1, 80)
        accused += membership.auc_p(membership.auc(members, others), 80, 80) < 0.05
    assert accused <= 72  # 50 are expected; more than 72 come by chance once in a thousand


@pytest.mark.parametrize(("shift", "count"), [(0.0, 30), (0.5, 40), (1.5, 100)])
def test_the_interval_of_an_auc_covers(shift: float, count: int) -> None:
    from statistics import NormalDist

    true = NormalDist().cdf(shift / np.sqrt(2))
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(500):
        members, others = rng.normal(shift, 1, count), rng.normal(0, 1, count)
        low, high = membership.auc_interval(membership.auc(members, others), count, count)
        held += low <= true <= high
    assert held >= 0.93 * 500
