"""Whether answers have to do with their prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.data.examples import Example
from luthier.data.linting import LINTS, Finding, LintContext, sources

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Kinds whose answers share words or meaning with what is asked. (Labels and translations do not.)
KINDS = frozenset({"qa", "summarization", "generation", "chat"})
#: Pairs compared by words, and by meaning, which costs a thousand times as much.
PAIRS, PAIRS_BY_MEANING = 1_000, 200
#: Characters read of a prompt and of an answer; by meaning, of either.
READ_PROMPT, READ_ANSWER, READ_BY_MEANING = 2_000, 1_000, 400
FEWEST = 30
#: The area below which pairs are loosely related. Measured: instruction data 0.92 by words and
#: 0.99 by meaning, questions of SQuAD without their passage 0.92 by meaning, a chat log 0.74.
LOOSE = 0.8
#: The area below which they might as well be shuffled, and the p above which nothing says that they
#: are not.
UNRELATED, BY_CHANCE = 0.55, 0.05
SHUFFLES = 999


@dataclass(frozen=True)
class Relatedness:
    """How much nearer answers are to their own prompt than to others.

    Attributes:
        area: the chance that an answer is nearer to its own prompt than another row's answer is
            (the area under the ROC curve, the common-language effect size); 0.5 is chance.
        effect: Cohen's d of matched over mismatched similarities, in standard deviations of the
            mismatched ones.
        p: of the permutation test: shuffled pairings with a mean similarity as high.
        close: the share of answers nearer than 95 % of the other answers; 0.05 is chance.
        pairs: how many were compared.
        by: "words" or "meaning".
        loosest: rows whose own answer is the furthest down among all answers.
    """

    area: float
    effect: float
    p: float
    close: float
    pairs: int
    by: str
    loosest: tuple[Example, ...]

    @property
    def loose(self) -> bool:
        """Whether the answers have little to do with their prompts."""
        return self.area < LOOSE


@LINTS.register("relatedness")
def relatedness(context: LintContext) -> Iterator[Finding]:
    """Training answers that fit another prompt as well as their own."""
    found = measure(context)
    if found is None or not found.loose:
        return
    unrelated = found.area < UNRELATED or found.p > BY_CHANCE
    yield Finding(
        "relatedness",
        "warning" if unrelated else "note",
        found.pairs - round(found.close * found.pairs),
        sources(found.loosest),
        in_words(found)
        + (
            " The answers might as well be shuffled: a model learns to pass over what it is asked."
            if unrelated
            else " Where answers hardly depend on the prompt, a model learns to pass over it."
        ),
        "Look whether prompt and answer of a row belong together; pairs cut from a log of many "
        "speakers often do not.",
    )


def in_words(found: Relatedness) -> str:
    """The measure as one sentence."""
    return (
        f"{found.close:.0%} of the answers are nearer to their own prompt, by {found.by}, than "
        f"95 % of the other answers are (shuffled pairs: 5 %; sound pairs: most); area under the "
        f"curve {found.area:.2f}, effect size {found.effect:.1f}, permutation test "
        f"p = {found.p:.3f}, {found.pairs:,} pairs."
    )


def measure(context: LintContext) -> Relatedness | None:
    """Answers against their own and all other prompts; None where that says nothing.

    By words: the mean cosine of TF-IDF vectors of words and of their four-character pieces. Where
    that is low, and an encoder is at hand, by meaning too, since a good answer need not repeat the
    words of the question; the higher of the two areas counts.
    """
    return context.once("relatedness", lambda: _measure(context))


def _measure(context: LintContext) -> Relatedness | None:
    if context.task.kind not in KINDS:
        return None
    examples = [e for e in context.sample("train", PAIRS).examples if e.messages]
    # with few distinct answers (labels, grades) most rows share theirs with their neighbours
    if len(examples) < FEWEST or len({e.output for e in examples}) < len(examples) / 5:
        return None
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    prompts = ["\n".join(m.content for m in e.messages)[-READ_PROMPT:] for e in examples]
    answers = [e.output[:READ_ANSWER] for e in examples]
    alike = np.zeros((len(examples), len(examples)))
    for how in (
        {"analyzer": "char_wb", "ngram_range": (4, 4)},
        {"token_pattern": r"(?u)\b\w+\b"},  # numbers and short words tell rows apart too
    ):
        vectors = TfidfVectorizer(sublinear_tf=True, **how)
        try:
            vectors.fit([*prompts, *answers])
        except ValueError:  # no letters at all
            return None
        alike += (vectors.transform(prompts) @ vectors.transform(answers).T).toarray() / 2
    found = _compare(alike, examples, "words", context.task.seed)
    if found.loose and context.embed is not None:
        few = slice(0, PAIRS_BY_MEANING)
        asked = context.embed([text[-READ_BY_MEANING:] for text in prompts[few]])
        given = context.embed([text[:READ_BY_MEANING] for text in answers[few]])
        deeper = _compare(asked @ given.T, examples[few], "meaning", context.task.seed)
        found = max(found, deeper, key=lambda one: one.area)
    return found


def _compare(alike: Array, examples: list[Example], by: str, seed: int) -> Relatedness:
    """What a (prompts, answers) matrix of similarities says; matched pairs are its diagonal."""
    import numpy as np

    n = len(examples)
    matched = np.diag(alike)
    others = ~np.eye(n, dtype=bool)
    lower = ((alike < matched[:, None]) & others).sum(1)
    equal = ((alike == matched[:, None]) & others).sum(1)
    areas = (lower + equal / 2) / (n - 1)
    chance = np.random.default_rng(seed)
    shuffled = [alike[np.arange(n), chance.permutation(n)].mean() for _ in range(SHUFFLES)]
    spread = float(alike[others].std())
    return Relatedness(
        area=float(areas.mean()),
        effect=float((matched.mean() - alike[others].mean()) / spread) if spread > 0 else 0.0,
        p=float((1 + np.sum(np.array(shuffled) >= matched.mean())) / (SHUFFLES + 1)),
        close=float((areas >= 0.95).mean()),
        pairs=n,
        by=by,
        loosest=tuple(examples[int(i)] for i in np.argsort(areas, kind="stable")[:20]),
    )
