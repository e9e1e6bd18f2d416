"""What more training examples would bring: the learning curve of an arm, carried on.

The score of an arm on one test, trained on n examples, is taken to be 1 - e(n) with the
Morgan-Mercer-Flodin curve

    e(n) = a + (e0 - a) / (1 + (n / k)^c)

which falls from e0 (nothing learned) to a (what no amount of examples mends). For k far below the
sizes that were tried it is the power law a + b n^-c; for k among them it has the flat start of a
model that has not yet understood what is asked. Of the 16 families that Viering and Loog compare
on 246 data sets it extrapolates best or second best. A single fit scatters about the curve, more
so with few examples: normally, with a deviation of s sqrt(N / n).

All five numbers are unknown, and four sizes do not decide them. So no one curve is fitted:
thousands are drawn from what the scores leave open (the posterior, by Metropolis steps; the prior
is below, in numbers), and together they say what is to come and how sure that is.

References:
    Viering & Loog 2022, "The Shape of Learning Curves: a Review", IEEE TPAMI, arXiv 2103.10948;
    Domhan, Springenberg & Hutter 2015, IJCAI (Bayesian extrapolation of learning curves);
    ter Braak 2006, Statistics and Computing 16:239 (differential evolution Markov chain);
    Hestness et al. 2017, arXiv 1712.00409 (power laws with an offset).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Of the bands.
LEVEL = 0.9
#: How probable a gain (or its absence) must be to be called likely.
SURE = 0.8
#: Curves that are kept, drawn to begin with, and Metropolis steps of each that is kept.
_CURVES, _DRAWS, _STEPS = 2_000, 50_000, 200
#: Where a single fit scatters by more than this, what was seen is no learning curve.
_MOST_SCATTER = 0.05
#: Prior: log c and log s are normal about these with these deviations; of the curves this share
#: is nearly flat already, the error that stays being within a tenth of the present one.
_C, _C_DEVIATION = math.log(0.6), 0.6
_S, _S_DEVIATION = math.log(0.01), 0.7
_FLAT, _NEARLY = 0.3, 0.9


@dataclass(frozen=True)
class Band:
    """A score at a number of training examples.

    Attributes:
        examples: how many.
        score: the median.
        interval: 90 % of what the score of one fit may be, on this test.
    """

    examples: int
    score: float
    interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """For verdict.json."""
        return {
            "examples": self.examples,
            "score": self.score,
            "interval": list(self.interval),
        }


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """What the curves that agree with the pilot fits say.

    Attributes:
        sizes: numbers of training examples that were tried, ascending.
        draws: (curves, 5): a, e0, k, c, s of each curve, all equally probable.
    """

    sizes: tuple[int, ...]
    draws: Array

    @property
    def regular(self) -> bool:
        """Whether what was seen looks like a learning curve at all."""
        return float(np.median(self.draws[:, 4])) <= _MOST_SCATTER

    def expected(self, examples: float) -> Array:
        """The expected score at a number of examples by each curve, (curves,)."""
        return 1 - _errors(self.draws, np.array([examples], dtype=np.float64))[:, 0]

    def band(self, examples: int, *, seed: int = 0) -> Band:
        """The score of one fit on this many examples."""
        rng = np.random.default_rng([seed, examples])
        scatter = _scatter(self.draws, np.array([examples]), self.sizes[-1])[:, 0]
        values = np.clip(
            self.expected(examples) + scatter * rng.standard_normal(len(scatter)), 0, 1
        )
        low, middle, high = np.quantile(values, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
        return Band(examples, float(middle), (float(low), float(high)))

    def gains(self, examples: int, *, row_error: float = 0.0, seed: int = 0) -> Array:
        """What a fit on `examples` scores more than one on all that are there, (curves,).

        Args:
            examples: more than there are.
            row_error: standard error that the drawing of the test's rows gives to a difference of
                this kind; with it the gains are those on new questions, not on this test alone.
            seed: of the noise.
        """
        now = self.expected(self.sizes[-1])
        rng = np.random.default_rng([seed, examples, 1])
        drawn = self.expected(examples) - now + row_error * rng.standard_normal(len(now))
        # however the questions are drawn, no score is above 1
        return np.asarray(np.minimum(drawn, 1 - now), dtype=np.float64)

    def needed(self, score: float, *, most: float) -> tuple[float, float, float]:
        """How many examples the expected score takes to reach `score`: median and 90 % interval.

        Args:
            score: to be reached.
            most: numbers beyond this are infinite: nobody should believe a curve so far out.
        """
        grid = np.geomspace(self.sizes[-1], most, 200)
        reached = 1 - _errors(self.draws, grid) >= score
        first = np.where(reached.any(axis=1), grid[reached.argmax(axis=1)], np.inf)
        # quantiles between a number and infinity have no meaning: the number above is taken
        low, middle, high = np.quantile(
            first, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], method="higher"
        )
        return float(middle), float(low), float(high)


def learning_curve(scores: Mapping[int, Sequence[float]], *, seed: int = 0) -> LearningCurve:
    """Curves that agree with the scores of pilot fits.

    Args:
        scores: for each number of training examples the score, in [0, 1], of each fit on so many;
            at least two numbers of examples.
        seed: of what is drawn.

    Raises:
        ValueError: fewer than two numbers of examples, or a number without a fit.
    """
    sizes = tuple(sorted(scores))
    if len(sizes) < 2 or sizes[0] < 1 or not all(len(scores[size]) for size in sizes):
        raise ValueError(f"a learning curve takes fits on two numbers of examples: {scores}")
    n = np.array(sizes, dtype=np.float64)
    seen = [1 - np.asarray(scores[size], dtype=np.float64) for size in sizes]
    fits = np.array([len(one) for one in seen])
    means = np.array([one.mean() for one in seen])
    squares = np.array([((one - one.mean()) ** 2).sum() for one in seen])

    seen_so = _Seen(n, fits, means, squares)
    return LearningCurve(sizes, _posterior(seen_so, np.random.default_rng(seed)))


@dataclass(frozen=True, eq=False)
class _Seen:
    """What was seen at each size: fits, their mean error, and their squared distances from it."""

    n: Array
    fits: Array
    means: Array
    squares: Array

    def curves(self, z: Array) -> Array:
        """a, e0, k, c, s of (curves, 5) of what is sampled: the error at the largest size, the
        share of it that stays, log c, log k, log s."""
        at_last, stays = z[:, 0], z[:, 1]
        c, k, s = np.exp(z[:, 2:].T)
        a = at_last * stays
        return np.stack([a, a + (at_last - a) * (1 + (self.n[-1] / k) ** c), k, c, s], axis=1)

    def density(self, z: Array) -> Array:
        """Log of the posterior density, up to a constant; -inf where no curve can be, (curves,)."""
        inside = (z[:, :2] > 0).all(axis=1) & (z[:, :2] < 1).all(axis=1)
        inside &= (z[:, 3] > math.log(self.n[0] / 1000)) & (z[:, 3] < math.log(self.n[-1]))
        inside &= np.abs(z[:, 2] - _C) < 3.5 * _C_DEVIATION
        out = np.full(len(z), -np.inf)
        curves = self.curves(z[inside])
        errors = _errors(curves, self.n)
        deviation = _scatter(curves, self.n, self.n[-1])
        misses = self.fits * (self.means - errors) ** 2 + self.squares
        likelihood = (-self.fits * np.log(deviation) - misses / (2 * deviation**2)).sum(axis=1)
        _, stays, c, _, s = z[inside].T
        prior = np.log((1 - _FLAT) + _FLAT / (1 - _NEARLY) * (stays > _NEARLY))
        prior -= (c - _C) ** 2 / (2 * _C_DEVIATION**2) + (s - _S) ** 2 / (2 * _S_DEVIATION**2)
        # the first size is the least that anything is said of; there no error is above 1
        out[inside] = np.where(errors[:, 0] <= 1, likelihood + prior, -np.inf)
        return out


def _posterior(seen: _Seen, rng: np.random.Generator) -> Array:
    """Curves drawn from what the scores leave open, (_CURVES, 5).

    The best of many draws from the prior are where the walks begin; steps are differences of two
    other walks, as in ter Braak 2006 (differential evolution Markov chain), which fits them to the
    width and slant of the posterior by themselves.
    """
    z = np.stack(
        [
            np.clip(seen.means[-1] + 0.06 * rng.standard_normal(_DRAWS), 0.001, 0.999),
            np.where(
                rng.random(_DRAWS) < _FLAT, rng.uniform(_NEARLY, 1, _DRAWS), rng.random(_DRAWS)
            ),
            _C + _C_DEVIATION * rng.standard_normal(_DRAWS),
            rng.uniform(math.log(seen.n[0] / 1000), math.log(seen.n[-1]), _DRAWS),
            _S + _S_DEVIATION * rng.standard_normal(_DRAWS),
        ],
        axis=1,
    )
    density = seen.density(z)
    weights = np.exp(np.maximum((density - density.max()) / 4, -700))
    chosen = rng.choice(_DRAWS, size=_CURVES, p=weights / weights.sum())
    z, density = z[chosen], density[chosen]
    for step in range(_STEPS):
        one, other = rng.permutation(_CURVES), rng.permutation(_CURVES)
        # now and then a whole step, which leads from one mode to another
        length = 1.0 if step % 10 == 9 else 2.38 / math.sqrt(2 * z.shape[1])
        moved = z + length * (z[one] - z[other]) + 1e-4 * rng.standard_normal(z.shape)
        there = seen.density(moved)
        taken = np.log(rng.random(_CURVES)) < there - density
        z[taken], density[taken] = moved[taken], there[taken]
    return seen.curves(z)


def _errors(draws: Array, n: Array) -> Array:
    """The expected error of each curve at each size, (curves, sizes)."""
    a, e0, k, c, _ = (column[:, None] for column in draws.T)
    return np.asarray(a + (e0 - a) / (1 + (n / k) ** c), dtype=np.float64)


def _scatter(draws: Array, n: Array, largest: float) -> Array:
    """The deviation of one fit about each curve at each size, (curves, sizes)."""
    return np.asarray(draws[:, 4:] * np.sqrt(largest / n), dtype=np.float64)
