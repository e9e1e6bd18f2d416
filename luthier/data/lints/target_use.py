"""Training outputs against outputs as the user would like them: another kind of text?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.data import style
from luthier.data.linting import LINTS, Finding, LintContext, sources

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Training outputs that are measured, and the fewest that say something.
MEASURED, FEWEST = 2_000, 20
#: Below this area the wanted texts lie among the training outputs.
APART = 0.9
#: The chance up to which they are said to be of another kind, and the draws that tell it.
SURE, DRAWS = 0.01, 999
#: How many times longer or shorter texts are of another kind by that alone.
FACTOR = 4.0
#: The furthest a single trait counts for, in robust standard deviations.
_MOST = 6.0


@dataclass(frozen=True)
class TargetUse:
    """How far the wanted outputs lie from the training outputs.

    Attributes:
        area: the chance that a wanted output is told from a training output by how it is written
            (area under the ROC curve, cross-validated); 0.5 means it is not.
        p: the share of as many training outputs, drawn at random, that are told as well.
        traits: the traits that differ most: (name, training median, wanted median) for people.
        factor: how many times longer, or shorter, the wanted ones are in the middle.
        wanted, measured: how many outputs were compared.
        furthest: indices of the training outputs that are least like the wanted ones.
    """

    area: float
    p: float
    traits: tuple[tuple[str, str, str], ...]
    factor: float
    wanted: int
    measured: int
    furthest: tuple[int, ...]

    @property
    def mismatch(self) -> bool:
        """Whether training outputs are another kind of text than the wanted ones.

        However alike training outputs are among themselves, a difference must also matter.
        """
        matters = len(self.traits) >= 2 or self.factor >= FACTOR
        return self.area >= APART and self.p <= SURE and matters


@LINTS.register("target_use")
def target_use(context: LintContext) -> Iterator[Finding]:
    """Wanted outputs that are written unlike the training outputs.

    What is trained on is what is learned: chat messages do not teach essays.
    """
    found = measure(context)
    if found is None or not found.mismatch:
        return
    drawn = context.sample("train", MEASURED)
    yield Finding(
        "target_use",
        "warning",
        found.measured,
        sources(drawn.examples[index] for index in found.furthest),
        f"Training outputs are another kind of text than the outputs you want: {in_words(found)} "
        "A trained model writes like its training rows.",
        "Train on rows written like those you want, or correct `wanted`.",
    )


def in_words(found: TargetUse) -> str:
    """The measure as two sentences."""
    differ = "; ".join(f"{name} {had} against {wish}" for name, had, wish in found.traits)
    several = found.wanted > 1
    return (
        f"by length, case, punctuation and layout alone a small classifier tells the "
        f"{f'{found.wanted} wanted outputs' if several else 'wanted output'} from "
        f"{found.measured:,} training outputs with an area under the curve of {found.area:.2f} "
        f"(as many training outputs drawn at random: p = {found.p:.3f})."
        + (f" They differ in: {differ}." if differ else "")
    )


def measure(context: LintContext) -> TargetUse | None:
    """The wanted outputs against the training outputs; None where there is nothing to compare.

    Each trait (`style.TRAITS`) is centred by the training median and scaled by 1.4826 times the
    median absolute deviation (Huber 1981), which few odd rows do not move. Two or three wanted
    outputs train no large classifier, so it is the smallest there is: the direction from the
    training median to the mean of the wanted outputs (a nearest-centroid rule, or discriminant
    analysis with a diagonal covariance). Each wanted output is left out in turn, and ranked among
    the training outputs along the direction of the others; the mean rank is the area under the
    curve. A single wanted output has no others: its distance from the median is ranked.

    The chance is an exact Monte Carlo test: the same is done with as many training outputs drawn
    at random, 999 times.
    """
    return context.once("target use", lambda: _measure(context))


def _measure(context: LintContext) -> TargetUse | None:
    wanted = [text for text in context.task.wanted if text.strip()]
    train = context.sample("train", MEASURED).examples
    if not wanted or len(train) < max(FEWEST, 2 * len(wanted)):
        return None
    import numpy as np

    raw, raw_wish = style.measure_all([e.output for e in train]), style.measure_all(wanted)
    steps = np.array([trait.step for trait in style.TRAITS])
    middle = np.median(raw, axis=0)
    scale = np.maximum(1.4826 * np.median(np.abs(raw - middle), axis=0), steps)
    had = np.clip((raw - middle) / scale, -_MOST, _MOST)
    wish = np.clip((raw_wish - middle) / scale, -_MOST, _MOST)
    area = _area(had, wish)
    chance = np.random.default_rng(context.task.seed)
    draws = (chance.choice(len(had), len(wish), replace=False) for _ in range(DRAWS))
    as_far = sum(_area(had, had[rows]) >= area for rows in draws)
    # which traits, in steps that matter to people, and only those that differ in the middle
    target = np.median(raw_wish, axis=0)
    gaps = np.abs(target - middle) / scale
    traits = tuple(
        (style.TRAITS[i].name, style.shown(i, middle[i]), style.shown(i, target[i]))
        for i in (int(index) for index in np.argsort(-gaps, kind="stable")[:4])
        if gaps[i] > 1 and style.shown(i, middle[i]) != style.shown(i, target[i])
    )
    length = next(i for i, trait in enumerate(style.TRAITS) if trait.name == "length")
    unlike = np.abs(had - np.clip((target - middle) / scale, -_MOST, _MOST)).mean(1)
    return TargetUse(
        area=area,
        p=float((1 + as_far) / (DRAWS + 1)),
        traits=traits,
        factor=float(np.exp(abs(target[length] - middle[length]))),  # of logarithms of words
        wanted=len(wish),
        measured=len(had),
        furthest=tuple(int(index) for index in np.argsort(-unlike, kind="stable")[:20]),
    )


def _area(had: Array, wish: Array) -> float:
    """The mean rank, 0 to 1, of each row of `wish` (k, traits) among `had` (n, traits) along the
    direction of the other rows of `wish`."""
    import numpy as np

    if len(wish) == 1:
        scores, own = np.abs(had).mean(1)[:, None], np.abs(wish).mean(1)
    else:
        directions = (wish.sum(0) - wish) / (len(wish) - 1)
        scores = had @ directions.T
        own = (wish * directions).sum(1)
    return float(((scores < own).mean(0) + (scores == own).mean(0) / 2).mean())
