"""Membership inference: can training rows be told from held-out rows of the same source?

Five attacks, each a number for a row that is higher where it was trained on. An AUC is the chance
that a training row has the higher number of the two: it says how well rows can be told apart, and
nothing of how much of them the model knows. Where tuning does about the same to every row, the
`reference` attack tells them apart though one pass raised a token's probability by a hundredth: in
simulations of one pass over clean rows (tests/evaluation/learned_by_heart.py) its AUC was 0.9 to
1.0 while a hundredth of what there is to guess was known. So neither a significant AUC nor a large
one accuses anybody, and no bound on it could. A model has learned its rows by heart where

1. they can be told apart at all: of the five AUCs the largest is beyond chance (permutations of
   which row is which, the same for all attacks: Westfall and Young 1993, max-T), and
2. more is known of them than not: of what held-out rows leave to guess, in bits, less than half is
   left of training rows (`known`; the share that is known is the unintended memorization of Morris
   et al. 2025, with held-out rows in place of a model that never saw the row). Half is no finding
   but what "by heart" is taken to mean.

Both must hold, so the p is the larger of the two. TPR at 1 % FPR (Carlini et al. 2022) is reported
with an interval that allows for the bar being estimated as well, and decides nothing: a hundred
held-out rows do not fix a bar that one in a hundred exceeds. Where the untuned model can tell rows
apart as well, they are not of one source, and nothing is said.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation.memorisation.extraction import HALF
from luthier.evaluation.statistics import Interval, quantile_of_normal
from luthier.evaluation.token_likelihood import TokenScores

Array = NDArray[np.float64]

#: The share of least likely tokens of Min-K% and Min-K%++.
K = 0.2
#: False positives that are allowed.
FPR = 0.01
#: Rows of each side without which nothing is said.
LEAST_ROWS = 20
#: Permutations of which row is which.
PERMUTATIONS = 4_999
#: Nats a token below which held-out rows leave nothing to guess.
_NOTHING = 1e-3


def loss(scores: TokenScores) -> float:
    """Mean log-probability of a token."""
    return float(scores.logprob.mean())


def zlib_ratio(scores: TokenScores, text: str) -> float:
    """Mean log-probability by the bytes that zlib needs for the text."""
    return loss(scores) / len(zlib.compress(text.encode("utf-8")))


def min_k(scores: TokenScores) -> float:
    """Mean log-probability of the 20 % least likely tokens, one at least."""
    return _lowest(scores.logprob)


def min_k_plus(scores: TokenScores) -> float:
    """The same of log-probabilities in standard deviations from what was expected there."""
    # where one token has all the probability, the deviation is 0, and so is the surprise
    return _lowest((scores.logprob - scores.mean) / np.maximum(scores.deviation, 1e-6))


def reference(tuned: TokenScores, base: TokenScores) -> float:
    """How much likelier tuning made a token, on average, as log-probability."""
    return loss(tuned) - loss(base)


def _lowest(values: Array) -> float:
    return float(np.sort(values)[: max(1, int(len(values) * K))].mean())


def attacks(
    tuned: Sequence[TokenScores], base: Sequence[TokenScores], texts: Sequence[str]
) -> dict[str, Array]:
    """The numbers of all attacks for some rows, (n,) each, higher for a member."""
    return {
        "loss": np.array([loss(one) for one in tuned]),
        "zlib": np.array([zlib_ratio(s, t) for s, t in zip(tuned, texts, strict=True)]),
        "min_k": np.array([min_k(one) for one in tuned]),
        "min_k_plus": np.array([min_k_plus(one) for one in tuned]),
        "reference": np.array([reference(a, b) for a, b in zip(tuned, base, strict=True)]),
    }


def auc(members: Array, others: Array) -> float:
    """The chance that a member's number is higher than another's; ties count half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    count = len(members)
    return float((ranks.sum() - count * (count + 1) / 2) / (count * len(others)))


def auc_error(value: float, members: int, others: int) -> float:
    """The standard error of an AUC whose true value this is (Hanley & McNeil 1982, with the mean
    of both sample sizes as in Newcombe 2006, method 5)."""
    mean = (members + others) / 2 - 1
    spread = 1 + mean * (1 - value) / (2 - value) + mean * value / (1 + value)
    return math.sqrt(value * (1 - value) * spread / (members * others))


def auc_interval(value: float, members: int, others: int, level: float = 0.95) -> Interval:
    """Newcombe's interval, method 5: the true values that are within z of their own error."""
    z = quantile_of_normal(0.5 + level / 2)

    def end(inside: float, outside: float) -> float:
        for _ in range(60):
            middle = (inside + outside) / 2
            if abs(value - middle) <= z * auc_error(middle, members, others):
                inside = middle
            else:
                outside = middle
        return inside

    return end(value, 0.0), end(value, 1.0)


def largest_auc_p(members: Sequence[Array], others: Sequence[Array], *, seed: int = 0) -> float:
    """One-sided p of the largest AUC of several attacks, if rows of both kinds are alike.

    Which row is which is permuted for all attacks together, so the p allows for their number and
    for their being much the same. It is exact, whatever the numbers' distribution.

    Args:
        members: by attack, (n,) numbers of training rows.
        others: by attack, (m,) of held-out rows.
        seed: of the permutations.
    """
    from scipy.stats import rankdata

    n = len(members[0])
    ranks = np.stack([rankdata(np.concatenate(pair)) for pair in zip(members, others, strict=True)])
    seen = ranks[:, :n].sum(axis=1).max()
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(ranks.shape[1]), (PERMUTATIONS, 1)), axis=1)[:, :n]
    drawn = np.max([own[order].sum(axis=1) for own in ranks], axis=0)
    return float((1 + (drawn >= seen - 1e-9).sum()) / (1 + PERMUTATIONS))


def known(members: Array, others: Array, untuned: Array) -> dict[str, Any]:
    """How much of training rows the model knows, of what held-out rows leave to guess.

    Args:
        members: mean log-probability of a token by training row, (n,), nats.
        others: the same of held-out rows, (m,).
        untuned: of held-out rows by the untuned model, (m,): a model that was trained for too long
            is surprised by held-out rows more than it was before, and that is nothing it knows.

    Returns:
        {"share", "interval", "p"}: 0 where training rows are as surprising as held-out ones, 1
        where nothing of them is; its 95 % interval; the one-sided p for a share of at most a half.
        Both by Welch's t of the difference of the means' logarithms, as surprise is skewed: on the
        means themselves the test erred in 8 simulations of 100, on these in 5.
    """
    from scipy.special import stdtr, stdtrit

    left, task = -members, min(-others, -untuned, key=lambda values: float(values.mean()))
    if task.mean() < _NOTHING:
        return {"share": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    # a mean of nothing has no logarithm
    ratio = max(float(left.mean()), 1e-12) / float(task.mean())
    parts = np.array(
        [one.var(ddof=1) / len(one) / max(one.mean(), 1e-12) ** 2 for one in (left, task)]
    )
    error = math.sqrt(parts.sum())
    if error == 0:
        ends, p = (ratio, ratio), float(ratio >= 1 - HALF)
    else:
        freedom = error**4 / (parts**2 / (np.array([len(left), len(task)]) - 1)).sum()
        half = float(stdtrit(freedom, 0.975)) * error
        ends = ratio * math.exp(half), ratio * math.exp(-half)
        p = float(stdtr(freedom, math.log(ratio / (1 - HALF)) / error))
    return {
        "share": round(1 - ratio, 4),
        "interval": [round(1 - end, 4) for end in ends],
        "p": p,
    }


def true_positives(members: Array, others: Array) -> float:
    """The share of members above all but 1 % of the others (all of them, below a hundred)."""
    allowed = int(FPR * len(others))
    bar = np.sort(others)[::-1][allowed]
    return float((members > bar).mean())


def true_positives_interval(members: Array, others: Array, level: float = 0.95) -> Interval:
    """What the share above the bar that one in a hundred others exceeds may be.

    The bar is only known to lie between two of the others (order statistics, binomial), and the
    shares of members above these are only known up to chance (Clopper and Pearson): each of the
    four errors has a quarter of 1 - level. With fewer than 436 others the lower end is 0 at 95 %,
    as more than one in a hundred may exceed the highest of them.
    """
    from scipy.stats import beta, binom

    n, m, tail = len(members), len(others), (1 - level) / 4
    falling = np.sort(others)[::-1]
    # at most so many of m exceed the bar, and at least so many
    most, least = int(binom.isf(tail, m, FPR)), int(binom.ppf(tail, m, FPR))
    low, high = 0.0, 1.0
    if least > 0:
        above = int((members > falling[least - 1]).sum())
        low = float(beta.ppf(tail, above, n - above + 1)) if above else 0.0
    if most < m:
        above = int((members > falling[most]).sum())
        high = float(beta.isf(tail, above + 1, n - above)) if above < n else 1.0
    return low, high


def told_apart(
    members: dict[str, Array], others: dict[str, Array], base: tuple[Array, Array]
) -> dict[str, Any]:
    """What the attacks come to.

    Args:
        members: by attack ("loss" among them), (n,) numbers of training rows.
        others: by attack, (m,) of held-out rows.
        base: the untuned model's mean log-probabilities of a token, of both.

    Returns:
        {"members", "held_out", "attacks": {name: {"auc", "interval", "tpr", "tpr_interval"}},
        "before", "shifted", "best", "apart", "known", "p"}: `best` is the attack with the largest
        AUC, `apart` the p of `largest_auc_p`, `known` as by `known`. p is the larger of both their
        p; None with too few rows, or where the untuned model tells them apart as well ("shifted").
    """
    n, m = len(base[0]), len(base[1])
    found: dict[str, Any] = {"members": n, "held_out": m, "attacks": {}, "p": None, "best": None}
    if min(n, m) < LEAST_ROWS:
        return found
    for name, own in members.items():
        value = auc(own, others[name])
        found["attacks"][name] = {
            "auc": round(value, 4),
            "interval": [round(end, 4) for end in auc_interval(value, n, m)],
            "tpr": round(true_positives(own, others[name]), 4),
            "tpr_interval": [round(end, 4) for end in true_positives_interval(own, others[name])],
        }
    before = auc(*base)
    low, high = auc_interval(before, n, m, level=0.99)
    apart = largest_auc_p(list(members.values()), [others[name] for name in members])
    held = known(members["loss"], others["loss"], base[1])
    found |= {
        "before": round(before, 4),
        "shifted": not low <= 0.5 <= high,
        "best": max(found["attacks"], key=lambda name: found["attacks"][name]["auc"]),
        "apart": apart,
        "known": held,
    }
    if not found["shifted"]:
        found["p"] = max(apart, held["p"])
    return found
