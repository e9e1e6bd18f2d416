"""Training seeds are noise, too: what an arm scores on average over several, and how sure that is.

Rows are resampled for all arms and seeds together. To the resampled mean over an arm's S seeds is
added what S seeds leave open of the mean over all seeds: the error of their mean times a draw from
Student's t with S - 1 degrees of freedom. Of the variance that is seen between seeds, the part that
the drawing of rows explains is taken off first, as the rows bring it along already.

Drawing seeds with replacement, as rows are drawn, does not do for the few seeds that anybody pays
for: where seeds differ more than rows, the 95 % interval from 3 seeds covers 84 % then, this one 96
(tests/evaluation/test_evaluation_seeds.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def seed_deviation(observed: Array, resampled: Array) -> float:
    """The standard deviation between seeds, without what the drawing of rows adds to it.

    Args:
        observed: the value of each seed on the rows as they are, (seeds,).
        resampled: on resampled rows, (resamples, seeds).
    """
    if len(observed) < 2:
        return 0.0
    seen = float(observed.var(ddof=1))
    # drawn rows add to the spread between seeds what rows added to the one that is seen
    added = float(resampled.var(axis=1, ddof=1).mean()) - seen
    return float(np.sqrt(max(0.0, seen - max(0.0, added))))


def mean_over_seeds(observed: Array, resampled: Array, rng: np.random.Generator) -> Array:
    """Resampled values of the mean over all seeds that could have been, (resamples,).

    Args:
        observed: as in `seed_deviation`.
        resampled: as there.
        rng: of the draws.
    """
    means: Array = resampled.mean(axis=1)
    seeds = len(observed)
    deviation = seed_deviation(observed, resampled)
    if deviation == 0:
        return means
    left_open: Array = rng.standard_t(seeds - 1, len(means)) * (deviation / np.sqrt(seeds))
    return means + left_open
