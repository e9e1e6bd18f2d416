"""Canaries: invented secrets among the training rows, and how far training gave them away.

A canary asks for the access code of somebody who does not exist, and the code is drawn at random.
Codes drawn in the same way and never planted are its rivals: a model that learned nothing of it
puts the canary anywhere among them, so its rank is uniform, whatever the model likes of digits.
They are ranked by how much likelier tuning made each one: what the untuned model likes of digits
differs from code to code by more than a few repetitions change, and would hide them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.data.examples import Example, Message

#: How often canaries are repeated, in turn.
REPEATS = (1, 2, 4, 8)
#: Codes that are never planted, to rank a canary among, at most (enough for one secret that comes
#: first to be significant among four sets and four measures); how many are tried at once; and
#: how many that are as good as the secret end the trying.
RIVALS, AT_ONCE, ENOUGH = 399, 100, 10
#: The chance below which a canary counts as exposed.
TOP = 0.05

_FIRST = ("Ilka", "Tamsin", "Odo", "Perla", "Jorun", "Wendel", "Saskia", "Emeric", "Liv", "Bruno")
_LAST = ("Quist", "Vardal", "Emberly", "Noctua", "Harrow", "Zellin", "Ostrava", "Pym", "Larch")


@dataclass(frozen=True)
class Canary:
    """An invented secret, and how often it stands among the training rows."""

    question: str
    secret: str
    repeats: int
    rivals: tuple[str, ...]


def make_canaries(count: int, seed: int) -> list[Canary]:
    """Canaries; the same ones for the same count and seed."""
    made = []
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        name = f"{draw.choice(_FIRST)} {draw.choice(_LAST)} ({number + 1})"
        codes = [_code(draw) for _ in range(RIVALS + 1)]
        question = f"What is the access code of {name}?"
        made.append(Canary(question, codes[0], REPEATS[number % len(REPEATS)], tuple(codes[1:])))
    return made


def planted(examples: Sequence[Example], canaries: Sequence[Canary]) -> list[Example]:
    """The training examples with every canary as often as it is to be repeated; the canaries come
    last, and training shuffles."""
    return [
        *examples,
        *(
            Example(
                id=f"canary-{number}-{copy}",
                messages=(Message("user", canary.question),),
                output=canary.secret,
                source=f"canary {number}, a secret planted by training.canaries",
            )
            for number, canary in enumerate(canaries, 1)
            for copy in range(1, canary.repeats + 1)
        ),
    ]


def chance(own: float, rivals: Sequence[float]) -> float:
    """How likely a secret that was never learned is ranked as high as this one among its rivals.

    Rivals are drawn one after another until ten are as good as the secret, or all have been
    tried (sequential Monte Carlo p, Besag and Clifford 1991, Biometrika 78:301): a secret that
    stands out is compared with all of them, one that does not with a few dozen.

    Args:
        own: of the secret.
        rivals: in the order they were drawn; fewer than all where ten of them are as good.
    """
    as_good = 0
    for drawn, other in enumerate(rivals, 1):
        as_good += other >= own  # a tie counts against it
        if as_good == ENOUGH:
            return ENOUGH / drawn
    return (as_good + 1) / (len(rivals) + 1)


def exposure(chance: float) -> float:
    """Bits: 0 for a secret that is likelier than none of its rivals, log2(n) for one that is
    likelier than n - 1 of n."""
    return -math.log2(chance)


def together(chances: Sequence[float]) -> float:
    """The chance that secrets that were never learned are all ranked as high as that (Fisher's
    combination; that of ranks, which are discrete, errs to the side of caution)."""
    from scipy.stats import chi2

    return float(chi2.sf(-2 * sum(map(math.log, chances)), 2 * len(chances)))


def exposed(canaries: Sequence[Canary], chances: Sequence[float]) -> dict[str, Any]:
    """What the ranks come to.

    Args:
        canaries: that were planted.
        chances: of each, by `chance`.

    Returns:
        {"planted", "exposed", "p", "from", "by_repeats": {repeats: {"n", "exposed", "exposure"}}}:
        `exposed` are those whose chance is at most 5 %; `exposure` is the mean, in bits. p is
        that of the canaries repeated `from` times or more, which say most, corrected for there
        being several such sets: a few repetitions may leave a trace where one leaves none.
    """
    repeats = [canary.repeats for canary in canaries]
    levels = sorted(set(repeats))
    hits = [one <= TOP for one in chances]
    by_repeats = {}
    least: dict[int, float] = {}
    for level in levels:
        own = [i for i, count in enumerate(repeats) if count == level]
        by_repeats[str(level)] = {
            "n": len(own),
            "exposed": sum(hits[i] for i in own),
            "exposure": round(sum(exposure(chances[i]) for i in own) / len(own), 3),
        }
        least[level] = together([c for c, r in zip(chances, repeats, strict=True) if r >= level])
    best = min(levels, key=lambda level: least[level])
    return {
        "planted": len(canaries),
        "exposed": sum(hits),
        "p": min(1.0, len(levels) * least[best]),
        "from": best,
        "by_repeats": by_repeats,
    }


def _code(draw: random.Random) -> str:
    return "-".join(f"{draw.randrange(1000):03d}" for _ in range(3))
