"""Membership inference: can training rows be told from held-out rows of the same source?

Five attacks, each a number for a row that is higher where it was trained on. A model that saw a row
once is surer of it, and that accuses nobody: one epoch of LoRA on 200 rows of instructions left the
best attack with an AUC of 0.73, and not one row that could be extracted. So the test is not whether
rows can be told apart at all, but whether better than an AUC of 0.8. Where the untuned model can
tell them apart as well, they are not of one source, and nothing is said.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation.statistics import Interval, quantile_of_normal, wilson_interval
from luthier.evaluation.token_likelihood import TokenScores

Array = NDArray[np.float64]

#: The AUC up to which rows are taken to be told apart by having been read once.
ONE_PASS_AUC = 0.8
#: The share of least likely tokens of Min-K% and Min-K%++.
K = 0.2
#: False positives that are allowed.
FPR = 0.01
#: Rows of each side without which nothing is said.
LEAST_ROWS = 20


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


def auc_p(value: float, members: int, others: int, least: float = ONE_PASS_AUC) -> float:
    """One-sided p for a true AUC of at most `least`."""
    z = (value - least) / auc_error(least, members, others)
    return float(0.5 * math.erfc(z / math.sqrt(2)))


def true_positives(members: Array, others: Array) -> float:
    """The share of members above all but 1 % of the others (all of them, below a hundred)."""
    allowed = int(FPR * len(others))
    bar = np.sort(others)[::-1][allowed]
    return float((members > bar).mean())


def told_apart(
    members: dict[str, Array], others: dict[str, Array], base: tuple[Array, Array]
) -> dict[str, Any]:
    """What the attacks come to.

    Args:
        members: by attack, (n,) numbers of training rows.
        others: by attack, (m,) of held-out rows.
        base: the untuned model's losses of both.

    Returns:
        {"members", "held_out", "attacks": {name: {"auc", "interval", "tpr", "tpr_interval", "p"}},
        "before", "shifted", "p", "best"}. p is that of the best attack, corrected for their
        number; None with too few rows, or where the untuned model tells them apart as well
        ("shifted").
    """
    n, m = len(base[0]), len(base[1])
    found: dict[str, Any] = {"members": n, "held_out": m, "attacks": {}, "p": None, "best": None}
    if min(n, m) < LEAST_ROWS:
        return found
    for name, own in members.items():
        value = auc(own, others[name])
        rate = true_positives(own, others[name])
        found["attacks"][name] = {
            "auc": round(value, 4),
            "interval": [round(end, 4) for end in auc_interval(value, n, m)],
            "tpr": round(rate, 4),
            "tpr_interval": [round(end, 4) for end in wilson_interval(round(rate * n), n)],
            "p": auc_p(value, n, m),
        }
    before = auc(*base)
    low, high = auc_interval(before, n, m, level=0.99)
    best = min(found["attacks"], key=lambda name: found["attacks"][name]["p"])
    found |= {"before": round(before, 4), "shifted": not low <= 0.5 <= high, "best": best}
    if not found["shifted"]:
        found["p"] = min(1.0, len(members) * found["attacks"][best]["p"])
    return found
