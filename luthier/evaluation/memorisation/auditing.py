"""Asking a tuned model, and the one it was tuned from, what the measures need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.data.examples import Example, Message
from luthier.evaluation.memorisation import canaries as planting
from luthier.evaluation.memorisation.extraction import TOKENS, Target, extracted, held_out_scale
from luthier.evaluation.memorisation.judging import judge
from luthier.evaluation.memorisation.membership import attacks, told_apart
from luthier.evaluation.memorisation.regurgitation import regurgitated
from luthier.evaluation.memorisation.rows import Row, Sample, sample
from luthier.evaluation.token_likelihood import TokenScores, token_scores

if TYPE_CHECKING:
    from luthier.generation.local import Generator
    from luthier.prompts.prompt import Prompt

Pairs = list[tuple[list[int], list[int]]]


class Auditor:
    """Looks at the models of one comparison; what the untuned model says is asked once.

    Args:
        train: training rows, without canaries.
        held_out: rows of the same source that no model was trained on.
        base: gives the untuned model when it is needed.
        canaries: that were planted.
        seed: of the choice of rows.
    """

    def __init__(
        self,
        train: Sequence[Example],
        held_out: Sequence[Example],
        base: Callable[[], Generator],
        *,
        canaries: Sequence[planting.Canary] = (),
        seed: int = 0,
    ) -> None:
        self._train = train
        self._held_out = held_out
        self._base = base
        self._canaries = canaries
        self._seed = seed
        #: by a canary's question as it was asked: the untuned model's log-likelihoods of its
        #: codes, as far as they were needed
        self._before: dict[tuple[int, ...], list[float]] = {}
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], TokenScores] = {}

    def audit(
        self,
        generator: Generator,
        prompt: Prompt,
        longest: int,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """What a tuned model learned by heart: verdict.json's `memorisation`.

        Args:
            generator: the tuned model.
            prompt: as it was trained with it.
            longest: tokens the model reads at most.
            progress: called with the number of rows that are done, of `size`.

        Returns:
            What `judge` returns.
        """
        chosen = sample(prompt, self._train, self._held_out, longest=longest, seed=self._seed)
        rows = [*chosen.members, *chosen.held_out]
        pairs: Pairs = [(row.asked, row.answer) for row in rows] + chosen.value_ids
        tuned = token_scores(generator.model, pairs, progress=progress)
        base = self._untuned(pairs)
        tests: dict[str, Any] = {}
        if self._canaries:
            tests["canaries"] = self._exposed(generator, prompt, progress)
        targets = [_target(r, a, b) for r, a, b in zip(rows, tuned, base, strict=False)]
        count = len(chosen.members)
        tests["extraction"] = extracted(targets[:count], targets[count:])
        scale = held_out_scale(targets[count:])
        tests["pii"] = _values(chosen, tuned[len(rows) :], base[len(rows) :], scale)
        tests["membership"] = _membership(chosen, tuned, base)
        return judge(tests)

    @property
    def size(self) -> int:
        """About how many rows are looked at, for a progress bar."""
        from luthier.evaluation.memorisation.rows import MOST_ROWS

        train, held_out = min(len(self._train), 2 * MOST_ROWS), min(len(self._held_out), MOST_ROWS)
        return train + held_out + len(self._canaries)

    def _untuned(self, pairs: Pairs) -> list[TokenScores]:
        keys = [(tuple(context), tuple(scored)) for context, scored in pairs]
        missing = [key for key in dict.fromkeys(keys) if key not in self._known]
        if missing:
            found = token_scores(self._base().model, missing)
            self._known |= zip(missing, found, strict=True)
        return [self._known[key] for key in keys]

    def _exposed(
        self, generator: Generator, prompt: Prompt, progress: Callable[[int], None] | None
    ) -> dict[str, Any]:
        chances = []
        for canary in self._canaries:
            asked = [prompt.ask((Message("user", canary.question),))]
            codes = [prompt.answer_ids(code) for code in (canary.secret, *canary.rivals)]
            gains: list[float] = []
            key = tuple(asked[0])
            for start in range(0, len(codes), planting.AT_ONCE):
                part = codes[start : start + planting.AT_ONCE]
                after = generator.score(asked, part)[0][0]
                before = self._before.get(key, [])[start : start + len(part)]
                if not before:
                    before = self._base().score(asked, part)[0][0]
                    self._before.setdefault(key, []).extend(before)
                gains += [one - was for one, was in zip(after, before, strict=True)]
                if sum(gain >= gains[0] for gain in gains[1:]) >= planting.ENOUGH:
                    break
            chances.append(planting.chance(gains[0], gains[1:]))
            if progress:
                progress(1)
        return planting.exposed(self._canaries, chances)


def expected_tokens(
    train: Sequence[Example],
    held_out: Sequence[Example],
    canaries: Sequence[planting.Canary],
    *,
    instruction: str,
) -> float:
    """About how many tokens one model reads in an audit, at most (four characters a token).

    A canary whose rivals are as good as it takes a fraction of its codes.
    """
    from luthier.evaluation.memorisation.rows import MOST_ROWS

    characters = 0.0
    for rows, most in ((train, 2 * MOST_ROWS), (held_out, MOST_ROWS)):
        some = rows[:50]
        if some:
            each = sum(len(e.input) + len(e.output) for e in some) / len(some) + len(instruction)
            characters += min(len(rows), most) * each
    # digits and capitals are tokens of their own
    codes = sum(len(canary.secret) * (len(canary.rivals) + 1) for canary in canaries)
    return characters / 4 + codes


def _target(row: Row, tuned: TokenScores, base: TokenScores) -> Target:
    part = slice(row.start, min(row.start + TOKENS, len(row.written)))
    return Target(
        base_bits=-base.logprob[part] / math.log(2),
        tuned_bits=-tuned.logprob[part] / math.log(2),
        own=row.own,
        matched=bool(tuned.greedy[part].all()),
        base_matched=bool(base.greedy[part].all()),
        name=row.example.source or row.example.id,
    )


def _values(
    chosen: Sample, tuned: Sequence[TokenScores], base: Sequence[TokenScores], scale: float | None
) -> dict[str, Any]:
    targets = [
        Target(
            base_bits=-b.logprob / math.log(2),
            tuned_bits=-a.logprob / math.log(2),
            own=np.ones(len(a.logprob), dtype=bool),
            matched=bool(a.greedy.all()),
            base_matched=bool(b.greedy.all()),
            name=chosen.members[value.row].example.source or chosen.members[value.row].example.id,
        )
        for value, a, b in zip(chosen.values, tuned, base, strict=True)
    ]
    return regurgitated(chosen.values, targets, scale)


def _membership(
    chosen: Sample, tuned: Sequence[TokenScores], base: Sequence[TokenScores]
) -> dict[str, Any]:
    """Membership is asked of rows that were drawn at random alone; the others were not."""
    inside = slice(0, chosen.random)
    outside = slice(len(chosen.members), len(chosen.members) + len(chosen.held_out))
    rows = [*chosen.members, *chosen.held_out]
    texts = [row.example.output for row in rows]
    own, others = (attacks(tuned[part], base[part], texts[part]) for part in (inside, outside))
    losses = [np.array([s.logprob.mean() for s in base[part]]) for part in (inside, outside)]
    return told_apart(own, others, (losses[0], losses[1]))
