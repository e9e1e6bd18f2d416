"""Small language models that are really trained, thousands of them a minute, to be audited.

A row is twelve tokens; each stands at a place that is known by a vector of features (its question
and what comes before it), drawn anew for each row. What the truth makes likely there is a softmax
of the features, and so is the model, which begins with a part of the truth (it was pretrained) and
is tuned by stochastic gradient descent. With more features than tokens it can learn every row by
heart; with one pass and few features it learns the task. A few tokens of some rows are drawn at
random: values that nobody could know, as a telephone number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluation.memorisation import canaries as planting
from luthier.evaluation.memorisation import extraction, membership
from luthier.evaluation.memorisation.extraction import Target
from luthier.evaluation.memorisation.judging import judge
from luthier.evaluation.memorisation.regurgitation import Value, regurgitated
from luthier.evaluation.token_likelihood import TokenScores

Array = NDArray[np.float64]

TOKENS, LENGTH, BATCH, RIVALS = 24, 12, 8, 99
#: Where a row's value stands, and how many rows have one.
VALUE, WITH_VALUES = slice(5, 9), 20


@dataclass(frozen=True)
class Training:
    """How one model is tuned, and on what.

    Attributes:
        features: of a place.
        rate: of learning.
        epochs: passes over the rows.
        rows: training rows, and as many held out.
        canaries: that are looked at.
        planted: whether they were among the training rows, as often as they are to be.
        secrets: rows of random tokens, each repeated eight times.
    """

    features: int
    rate: float
    epochs: int = 1
    rows: int = 60
    canaries: int = 0
    planted: bool = False
    secrets: int = 0


def audited(training: Training, rng: np.random.Generator) -> dict[str, Any]:
    """What the judge says of one tuned model, from all tests there are."""
    d, n = training.features, training.rows
    truth = rng.normal(size=(d, TOKENS)) * 3 / np.sqrt(d)
    places = rng.normal(size=(2 * n + training.secrets, LENGTH, d))
    likely = _log(truth, places)
    ids = (likely + rng.gumbel(size=likely.shape)).argmax(axis=-1)
    has_value = [*range(WITH_VALUES), *range(2 * n, 2 * n + training.secrets)]
    for row in (*range(WITH_VALUES), *range(n, n + WITH_VALUES)):
        ids[row, VALUE] = rng.integers(TOKENS, size=4)
    ids[2 * n :] = rng.integers(TOKENS, size=(training.secrets, LENGTH))
    made = _canaries(training.canaries)
    asked = rng.normal(size=(len(made), LENGTH, d))
    codes = rng.integers(TOKENS, size=(len(made), RIVALS + 1, LENGTH))

    times = [one.repeats if training.planted else 0 for one in made]
    repeats = [1] * n + [8] * training.secrets + times
    members = [*range(n), *range(2 * n, 2 * n + training.secrets)]
    seen = np.repeat(np.concatenate([places[members], asked]), repeats, axis=0)
    said = np.repeat(np.concatenate([ids[members], codes[:, 0]]), repeats, axis=0)
    base = 0.4 * truth
    tuned = _tuned(base, seen, said, training, rng)

    now, before = _scores(tuned, places, ids), _scores(base, places, ids)
    targets = [_target(a, b, slice(None)) for a, b in zip(now, before, strict=True)]
    held_out = targets[n : 2 * n]
    tests: dict[str, Any] = {
        "extraction": extraction.extracted([targets[row] for row in members], held_out)
    }
    values = [Value(row, 0, 4, "PHONE") for row in has_value]
    tried = [_target(now[row], before[row], VALUE) for row in has_value]
    tests["pii"] = regurgitated(values, tried, extraction.held_out_scale(held_out))
    if made:
        gains = _of_codes(tuned, asked, codes) - _of_codes(base, asked, codes)
        chances = [planting.chance(float(one[0]), one[1:].tolist()) for one in gains]
        tests["canaries"] = planting.exposed(made, chances)
    texts = ["text"] * n
    own, others = (
        membership.attacks(now[part], before[part], texts)
        for part in (slice(0, n), slice(n, 2 * n))
    )
    losses = [np.array([membership.loss(one) for one in before[:n]])]
    losses.append(np.array([membership.loss(one) for one in before[n : 2 * n]]))
    tests["membership"] = membership.told_apart(own, others, (losses[0], losses[1]))
    return judge(tests)


@lru_cache
def _canaries(count: int) -> list[planting.Canary]:
    return planting.make_canaries(count, 0)


def _log(weights: Array, places: Array) -> Array:
    scores = places @ weights
    scores -= scores.max(axis=-1, keepdims=True)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)))


def _tuned(
    base: Array, places: Array, ids: NDArray[Any], training: Training, rng: np.random.Generator
) -> Array:
    """Stochastic gradient descent on the mean loss of a token, eight rows a step."""
    weights = base.copy()
    for _ in range(training.epochs):
        order = rng.permutation(len(places))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            at, right = places[rows].reshape(-1, training.features), ids[rows].ravel()
            pull = np.exp(_log(weights, at))
            pull[np.arange(len(right)), right] -= 1
            weights -= training.rate * at.T @ pull / len(right)
    return weights


def _scores(weights: Array, places: Array, ids: NDArray[Any]) -> list[TokenScores]:
    log = _log(weights, places)
    share = np.exp(log)
    mean = (share * log).sum(axis=-1)
    deviation = np.sqrt((share * (log - mean[..., None]) ** 2).sum(axis=-1))
    own = np.take_along_axis(log, ids[..., None], axis=-1)[..., 0]
    likeliest = log.argmax(axis=-1) == ids
    parts = zip(own, mean, deviation, likeliest, strict=True)
    return [TokenScores(*part) for part in parts]


def _of_codes(weights: Array, asked: Array, codes: NDArray[Any]) -> Array:
    """The log-probability of each code of each canary, (canaries, codes)."""
    log = _log(weights, asked)
    picked = np.take_along_axis(log, codes.transpose(0, 2, 1), axis=-1)
    return np.asarray(picked.sum(axis=1))


def _target(tuned: TokenScores, base: TokenScores, part: slice) -> Target:
    return Target(
        base_bits=-base.logprob[part] / np.log(2),
        tuned_bits=-tuned.logprob[part] / np.log(2),
        own=np.ones(len(tuned.logprob[part]), dtype=bool),
        matched=bool(tuned.greedy[part].all()),
        base_matched=bool(base.greedy[part].all()),
    )
