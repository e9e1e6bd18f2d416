"""How often the rule errs: synthetic tests of arms whose true scores are known, compared and
decided with the same code as real ones.

A `World` says how the arms and the rows are. `simulate` draws tests from it and counts what a
reader would hold against the verdict: deploying an arm that is worse than the best by more than
the margin, calling an arm better than one that is as good, and intervals that miss the truth.
`benchmarks/evaluation.py rule` prints a table of many worlds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation.scoring import METRICS
from luthier.task_sections import Success
from luthier.verdict.compare import ArmResult, Comparison, compare
from luthier.verdict.decide import Decision, decide

Array = NDArray[np.float64]

#: A p below this is taken to show a difference.
ALPHA = 0.05
FLOOR = "floor"


@dataclass(frozen=True)
class World:
    """Arms with known true scores, and rows to draw tests from.

    A row is answered by each arm better or worse by a standard normal number that is made of four:
    one of the row's group, one of the row, and the same two for this arm alone.

    Attributes:
        scores: the true score of each arm, in (0, 1); arms get cheaper from first to last.
        rows: of a test.
        margin: of the rule.
        graded: whether rows score anything in [0, 1] (as token F1 does), or are right or wrong.
        shared: share of the variance that all arms have in common.
        group: rows of a group; 1 for rows that are independent of each other.
        grouped: share of the variance that lies between groups.
        floor: the true score of an arm that is there to be beaten; None for none.
    """

    scores: tuple[float, ...]
    rows: int = 200
    margin: float = 0.02
    graded: bool = False
    shared: float = 0.5
    group: int = 1
    grouped: float = 0.0
    floor: float | None = None

    @property
    def named(self) -> dict[str, float]:
        """The true score of each arm by its name, the floor's too."""
        named = {f"arm {i:02}": score for i, score in enumerate(self.scores)}
        return named if self.floor is None else {**named, FLOOR: self.floor}


@dataclass(frozen=True)
class Outcome:
    """What came of a world's tests. Rates are fractions of the runs.

    Attributes:
        runs: how many tests.
        deployed: how often an arm was deployed.
        wrong: how often the one deployed is worse than the best by more than the margin.
        false_better: how often an adjusted p below 0.05 calls the leading arm better than one, or
            more, that are as good.
        false_lead: how often an arm is deployed that does not truly beat the floor.
        covers_score: share of the arms' intervals that hold the true score.
        covers_difference: share of the pairs' intervals that hold the true difference.
    """

    runs: int
    deployed: float
    wrong: float
    false_better: float
    false_lead: float
    covers_score: float
    covers_difference: float

    def error(self, rate: float) -> float:
        """Monte-Carlo standard error of one of the rates that are counted once a run."""
        return math.sqrt(max(rate * (1 - rate), 1 / self.runs) / self.runs)


def draw(world: World, rng: np.random.Generator) -> Array:
    """What each arm scores on each row of one test, (arms, rows); the floor comes last."""
    from scipy.special import ndtr

    truth = np.array(list(world.named.values()))[:, None]
    shape = (len(truth), world.rows)
    groups = -(-world.rows // world.group)
    parts = (
        (world.shared * world.grouped, (1, groups)),
        (world.shared * (1 - world.grouped), (1, world.rows)),
        ((1 - world.shared) * world.grouped, (len(truth), groups)),
        ((1 - world.shared) * (1 - world.grouped), shape),
    )
    latent = np.zeros(shape)
    for variance, size in parts:
        if variance > 0:
            part = math.sqrt(variance) * rng.standard_normal(size)
            if size[1] != world.rows:
                part = part.repeat(world.group, axis=1)[:, : world.rows]
            latent += part
    uniform = ndtr(latent)
    # u^(1 / r - 1) of a uniform u has mean r
    return np.asarray(uniform ** (1 / truth - 1) if world.graded else uniform < truth, np.float64)


def verdicts(
    world: World, runs: int, *, seed: int = 0, resamples: int = 1000
) -> Iterator[tuple[Comparison, Decision]]:
    """Tests of a world, each compared and decided."""
    metric = METRICS.get("f1" if world.graded else "accuracy")
    groups = [i // world.group for i in range(world.rows)] if world.group > 1 else None
    rng = np.random.default_rng(seed)
    for run in range(runs):
        scores = draw(world, rng)
        arms = [
            ArmResult(
                name,
                np.stack([row, np.ones_like(row)], axis=1),
                floor=name == FLOOR,
                costs={"seconds_per_answer": float(len(scores) - i)},
            )
            for i, (name, row) in enumerate(zip(world.named, scores, strict=True))
        ]
        compared = compare(arms, metric, seed=seed + run, clusters=groups, resamples=resamples)
        yield compared, decide(compared, Success(margin=world.margin))


def simulate(world: World, runs: int, *, seed: int = 0, resamples: int = 1000) -> Outcome:
    """Draw tests of a world and count.

    Args:
        world: the arms and rows.
        runs: how many tests.
        seed: of all that is drawn.
        resamples: of the bootstrap, where one is needed.
    """
    truth = world.named
    best = max(world.scores)
    pairs = list(combinations(truth, 2))
    counts = np.zeros(6)
    for compared, decision in verdicts(world, runs, seed=seed, resamples=resamples):
        deployed = decision.recommendation if decision.decision == "deploy" else None
        better = any(
            p < ALPHA and truth[name] >= truth[compared.best or name] - 1e-12
            for name, p in compared.p_adjusted.items()
        )
        scores = [_holds(arm.interval, truth[arm.name]) for arm in compared.arms]
        differences = [_holds(compared.pairs[a, b].interval, truth[a] - truth[b]) for a, b in pairs]
        counts += np.array(
            [
                deployed is not None,
                deployed is not None and truth[deployed] < best - world.margin - 1e-12,
                better,
                deployed is not None and truth[deployed] <= truth.get(FLOOR, 0.0) + 1e-12,
                np.mean(scores),
                np.mean(differences) if pairs else 1.0,
            ],
            dtype=np.float64,
        )
    return Outcome(runs, *(float(rate) for rate in counts / runs))


def _holds(ends: tuple[float, float] | None, truth: float) -> bool:
    return ends is not None and ends[0] - 1e-12 <= truth <= ends[1] + 1e-12
