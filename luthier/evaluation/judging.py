"""Judges: which of two answers is better, where no reference can say.

A judge is a model, and models have habits: they like the first answer, and the longer one. So every
pair is put to it twice, places swapped, without a name; where the two verdicts differ it is a tie.
Win rates are also given at equal length (`length_control.py`). And a judge is only as good as its
agreement with people: Cohen's kappa with pairs that people labelled, with its interval, decides
whether it may decide.

One file in `luthier/evaluation/judges/` is one kind of judge.

References:
    Zheng et al. 2023, "Judging LLM-as-a-Judge", arXiv 2306.05685 (swapped places, ties);
    Cohen 1960, Educ. Psychol. Meas. 20:37 (kappa);
    Dubois et al. 2024, "Length-Controlled AlpacaEval", arXiv 2404.04475.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.errors import InputError
from luthier.evaluation.human_pairs import LabelledPair
from luthier.evaluation.scoring import Array, ratio
from luthier.evaluation.statistics import Interval, paired_bootstrap
from luthier.registry import Registry

Progress = Callable[[int], None]
#: 1: the first answer is better; -1: the second; 0: a tie.
Preference = int

#: Fewer labelled pairs than this say too little about a judge.
LEAST_PAIRS = 50
#: The kappa that the lower end of the interval must reach where the task says nothing else.
LEAST_AGREEMENT = 0.4


@dataclass(frozen=True)
class Duel:
    """Two answers to one question, without a word on where they come from."""

    question: str
    first: str
    second: str

    @property
    def swapped(self) -> Duel:
        """The same with places changed."""
        return Duel(self.question, self.second, self.first)


class Judge(ABC):
    """Something that says which of two answers is better.

    Attributes:
        name: what it is called in reports.
        unreadable: how many of its replies named neither answer nor a tie; counted as ties.
    """

    name: str
    unreadable: int = 0

    @abstractmethod
    def prefer(self, duels: Sequence[Duel], progress: Progress | None = None) -> list[Preference]:
        """A preference for each duel, in order; `progress` hears how many are done."""


@dataclass(frozen=True)
class JudgeSettings:
    """Which judge is wanted.

    Attributes:
        model: a catalogue name, a folder or a hub id; the name the endpoint knows it by.
        endpoint: base URL of an OpenAI-compatible server; None for a model on this machine.
        key_env: the environment variable that holds the endpoint's key.
    """

    model: str
    endpoint: str | None = None
    key_env: str = "OPENAI_API_KEY"


#: Kinds of judge by name: each makes a judge from settings.
JUDGES: Registry[Callable[[JudgeSettings], Judge]] = Registry("judge", "luthier.evaluation.judges")


@dataclass(frozen=True, eq=False)
class Judged:
    """What a judge says of duels that were put to it both ways round.

    Attributes:
        preferences: of each duel, (n,): 1, -1 or 0.
        consistent: share of duels with the same verdict both ways round.
        first_place: of all verdicts that are no tie, the share for the answer shown first; 0.5 for
            a judge that does not look at the place.
    """

    preferences: NDArray[np.int64]
    consistent: float
    first_place: float


def judge_blind(judge: Judge, duels: Sequence[Duel], progress: Progress | None = None) -> Judged:
    """Put each duel to a judge twice, places swapped; where its verdicts differ it is a tie."""
    asked = [one for duel in duels for one in (duel, duel.swapped)]
    said = np.array(judge.prefer(asked, progress), dtype=np.int64).reshape(-1, 2)
    same = said[:, 0] == -said[:, 1]
    decided = said[said != 0]
    return Judged(
        preferences=np.where(same, said[:, 0], 0),
        consistent=float(same.mean()) if len(same) else 1.0,
        first_place=float((decided > 0).mean()) if len(decided) else 0.5,
    )


@dataclass(frozen=True)
class Agreement:
    """How far a judge agrees with people.

    Attributes:
        judge: its name.
        pairs: how many were judged.
        kappa: Cohen's, over better, worse and tie; 0 for guessing, 1 for the same verdicts.
        interval: its 95 % bootstrap interval, questions drawn together with all their pairs.
        same: share of the pairs with the same verdict.
        people: mean kappa of the people among themselves, where several labelled each pair.
        consistent, first_place: as in `Judged`.
        unreadable: replies that could not be read.
    """

    judge: str
    pairs: int
    kappa: float
    interval: Interval
    same: float
    people: float | None
    consistent: float
    first_place: float
    unreadable: int

    def refusal(self, least: float = LEAST_AGREEMENT) -> str | None:
        """Why this judge may not decide, or None."""
        low, high = self.interval
        if low >= least:
            return None
        among = "" if self.people is None else f" People among themselves reach {self.people:.2f}."
        return (
            f"The judge {self.judge} agrees too little with people to decide: kappa "
            f"{self.kappa:.2f} (95 % interval {low:.2f} to {high:.2f}) on {self.pairs:,} labelled "
            f"pairs, and the lower end must reach {least:g}.{among}"
        )


def kappa(counts: Array) -> Array:
    """Cohen's kappa from a table of two raters' verdicts.

    Args:
        counts: (..., k * k), the first rater's category changing slowest.

    Returns:
        (...,); 0 where chance alone would agree always.
    """
    size = round(counts.shape[-1] ** 0.5)
    table = counts.reshape(*counts.shape[:-1], size, size)
    total = table.sum((-1, -2))
    same = ratio(np.trace(table, axis1=-2, axis2=-1), total)
    chance = ratio((table.sum(-1) * table.sum(-2)).sum(-1), total**2)
    return ratio(same - chance, 1 - chance)


def agreement(
    judge: Judge,
    pairs: Sequence[LabelledPair],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Agreement:
    """Hold a judge against pairs that people labelled.

    Raises:
        InputError: fewer than LEAST_PAIRS pairs.
    """
    if len(pairs) < LEAST_PAIRS:
        raise InputError(
            f"{len(pairs)} labelled pairs are too few to tell whether the judge {judge.name} "
            f"agrees with people: at least {LEAST_PAIRS} are needed.",
            fix="Label more pairs; two hundred give a useful interval.",
        )
    judged = judge_blind(judge, [Duel(p.question, p.first, p.second) for p in pairs], progress)
    human = np.array([pair.preference for pair in pairs])
    table = _pairs_of(human, judged.preferences)
    questions: list[Hashable] = [pair.question for pair in pairs]
    drawn = paired_bootstrap([table], kappa, seed=seed, clusters=questions)
    return Agreement(
        judge=judge.name,
        pairs=len(pairs),
        kappa=float(kappa(table.sum(axis=0))),
        interval=drawn.interval(0),
        same=float((human == judged.preferences).mean()),
        people=_among_people(pairs),
        consistent=judged.consistent,
        first_place=judged.first_place,
        unreadable=judge.unreadable,
    )


def _pairs_of(one: NDArray[np.int64], other: NDArray[np.int64]) -> Array:
    """One-hot tables of two raters' preferences, (n, 9)."""
    return np.asarray(np.eye(9)[3 * (one + 1) + other + 1])


def _among_people(pairs: Sequence[LabelledPair]) -> float | None:
    raters = min(len(pair.labels) for pair in pairs)
    if raters < 2:
        return None
    labels = np.array([pair.labels[:raters] for pair in pairs])
    found = [
        float(kappa(_pairs_of(labels[:, i], labels[:, j]).sum(axis=0)))
        for i in range(raters)
        for j in range(i + 1, raters)
    ]
    return float(np.mean(found))
