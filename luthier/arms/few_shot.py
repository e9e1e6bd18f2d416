"""The instruction and worked examples; which ones and how many is chosen on validation."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from luthier.arms.base import ARMS, Choice, Fit, Workplace
from luthier.arms.prompted import Reading, instructed, shots_from, untrained
from luthier.arms.readings import longest_answer, read_best, reading_choice
from luthier.arms.zero_shot import ZeroShot
from luthier.data.examples import Example
from luthier.errors import InputError
from luthier.prompts.prompt import Prompt

_LABELLED_ROWS = 40
_WRITTEN_ROWS = 16
_DRAWS = 2


@dataclass(frozen=True)
class _Candidate:
    name: str
    prompt: Prompt
    examples: int


@ARMS.register("few-shot")
class FewShot(ZeroShot):
    """Asks the model with the instruction and training examples as earlier turns."""

    name = "few-shot"
    title = "Prompt with examples"
    seeded = True  # the seed draws the examples
    order = 30

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """As zero-shot, for the test and for the validation of one set of examples: more are tried
        as far as there is time."""
        from luthier.arms.planning import answering_seconds

        rows = _LABELLED_ROWS if place.labels else _WRITTEN_ROWS
        return answering_seconds(place, tests + min(rows, len(place.validation)))

    def fit(self, place: Workplace) -> Fit:
        """Try several sets of examples on validation."""
        task = place.task
        loaded = place.pool.causal(task.model)
        generator = place.pool.generator(task.model)
        bare = instructed(task, place.pool)
        candidates, notes = self._candidates(place, bare)
        rows = place.validation[: _LABELLED_ROWS if place.labels else _WRITTEN_ROWS]
        results: list[tuple[float, int, _Candidate, Reading, list[dict[str, object]]]] = []
        started = time.monotonic()
        for index, candidate in enumerate(candidates):
            reading, value, options = read_best(
                place, self.name, generator, candidate.prompt, rows, loaded.context_length
            )
            results.append((value, -index, candidate, reading, options))
            spent = (time.monotonic() - started) / 60
            if spent * (index + 3) / (index + 1) > place.minutes:  # one more, and the test
                if index + 1 < len(candidates):
                    notes.append(
                        f"Of {len(candidates)} sets of examples {index + 1} "
                        f"{'was' if index == 0 else 'were'} tried, to stay within the budget."
                    )
                break
        # among equals the first, which has the fewest examples and so the shortest prompt
        _, _, best, reading, options = max(results, key=lambda result: result[:2])
        return Fit(
            settings={
                "model": task.model,
                "prompt": best.prompt.to_dict(),
                "reading": reading.to_dict(),
                "examples": best.examples,
            },
            choices=[
                Choice(
                    what="the examples shown",
                    options=[{"value": c.name, "score": v} for v, _, c, _, _ in results],
                    chosen=best.name,
                    why=f"the highest score on {len(rows)} validation examples",
                ),
                reading_choice(options, reading, len(rows)),
            ],
            costs=untrained(task, place.pool),
            notes=[*bare.notes, *notes],
        )

    def _candidates(self, place: Workplace, bare: Prompt) -> tuple[list[_Candidate], list[str]]:
        single = [e for e in place.train if len(e.messages) == 1]
        if not single:
            raise InputError("No training example has a single turn, so none can be shown.")
        room = room_for_examples(place, bare)
        found, left_out = [], 0
        for size in sizes_of(place.labels):
            for draw in range(_DRAWS):
                chosen = pick_examples(single, size, f"{place.task.seed}-{size}-{draw}")
                prompt = bare.with_shots(shots_from(chosen))
                cost = len(prompt.ask(chosen[0].messages)) - len(bare.ask(chosen[0].messages))
                if cost > room:
                    left_out += 1
                    continue
                name = f"{len(chosen)} examples, draw {draw + 1}"
                found.append(_Candidate(name, prompt, len(chosen)))
        if not found:
            for draw in range(_DRAWS):  # at least the shortest two
                shortest = sorted(single, key=lambda e: len(e.input) + len(e.output))
                chosen = shortest[2 * draw : 2 * draw + 2] or shortest[:1]
                prompt = bare.with_shots(shots_from(chosen))
                cost = len(prompt.ask(chosen[0].messages)) - len(bare.ask(chosen[0].messages))
                if cost <= room:
                    name = f"{len(chosen)} short examples, draw {draw + 1}"
                    found.append(_Candidate(name, prompt, len(chosen)))
        if not found:
            raise InputError("No training example fits into the model's context as an example.")
        notes = [f"{left_out} sets of examples were too long to try."] if left_out else []
        return found, notes


def sizes_of(labels: Sequence[str] | None) -> list[int]:
    """How many examples are tried: one and two a label where that is few, else 3 and 6."""
    if not labels:
        return [3, 6]
    return [size for size in (len(labels), 2 * len(labels)) if size <= 24] or [16]


def room_for_examples(place: Workplace, bare: Prompt) -> int:
    """Tokens of the model's context that examples may take: half of it at most, because they are
    read for every answer, and what the longest question and answer leave."""
    context = place.pool.causal(place.task.model).context_length
    longest = max(len(bare.ask(e.messages)) for e in (*place.train, *place.validation))
    return min(context - longest - longest_answer(place.task, bare, place.train), context // 2)


def pick_examples(examples: Sequence[Example], size: int, seed: str) -> list[Example]:
    """A seeded draw, spread evenly over the answers where answers repeat, in mixed order."""
    order = random.Random(f"few-shot-{seed}")
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in order.sample(list(examples), len(examples)):
        groups[example.output].append(example)
    if len(groups) > size:  # free text: hardly an answer repeats, so any will do
        return order.sample(list(examples), min(size, len(examples)))
    chosen: list[Example] = []
    while len(chosen) < size and any(groups.values()):
        for answer in sorted(groups):
            if groups[answer] and len(chosen) < size:
                chosen.append(groups[answer].pop())
    order.shuffle(chosen)
    return chosen
