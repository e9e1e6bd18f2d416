"""The training examples most like the question, as worked examples in front of it.

Which examples a prompt shows matters more than how many; the nearest ones by a sentence encoder are
a good choice (Liu et al. 2022, arXiv 2101.06804). Every question then has a prompt of its own.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from luthier.arms.base import ARMS, Answerer, Choice, Fit, Workplace
from luthier.arms.nearest import (
    ENCODER,
    Examples,
    NearestPrompt,
    encoded,
    encoder_of,
    open_nearest,
    store_examples,
)
from luthier.arms.prompted import Reading, instructed, untrained
from luthier.arms.readings import longest_answer, read_best, reading_choice
from luthier.arms.zero_shot import ZeroShot
from luthier.errors import InputError
from luthier.models.pool import ModelPool
from luthier.task import Task

#: Numbers of examples that are tried, where answers are labels and where they are written.
_LABELLED, _WRITTEN = (4, 8, 16), (2, 4)
#: Validation rows they are tried on.
_LABELLED_ROWS, _WRITTEN_ROWS = 40, 16


@ARMS.register("knn-few-shot")
class KnnFewShot(ZeroShot):
    """Asks the model with the instruction and the training examples nearest to the question."""

    name = "knn-few-shot"
    title = "Prompt with the most similar examples"
    order = 31
    # a question reads several examples that it shares with no other: on two cores this arm takes
    # several times the time of few-shot, and one more arm widens the intervals of all the others
    in_auto = False

    def least_seconds(self, place: Workplace, tests: int) -> float:
        """Reading a middling number of examples with every answer, on validation and the test."""
        from luthier.arms.planning import answering_seconds

        sizes, rows = _tries(place)
        sample = place.train[:50]
        shown = sizes[len(sizes) // 2] * sum(len(e.input) + len(e.output) for e in sample)
        plain = sum(len(e.input) + 10 * (len(e.output) + 16) for e in sample)
        answers = tests + len(sizes) * min(rows, len(place.validation))
        return float((1 + shown / plain) * answering_seconds(place, answers))

    def fit(self, place: Workplace) -> Fit:
        """Encode the training rows, and choose how many are shown on validation."""
        task = place.task
        began = time.perf_counter()
        single = [e for e in place.train if len(e.messages) == 1]
        if not single:
            raise InputError("No training example has a single turn, so none can be shown.")
        encoder, notes = encoder_of(place.pool)
        examples, vectors = encoded(place, self.name, single, encoder)
        if len(examples) < len(single):
            notes.append(
                f"{len(examples):,} of {len(single):,} training examples, drawn at random, were "
                "encoded and can be shown, to stay within the budget."
            )
        store_examples(place.folder / "model", examples, vectors)
        encoding = time.perf_counter() - began
        loaded = place.pool.causal(task.model)
        bare = instructed(task, place.pool)
        # as in few-shot, half of the context stays free of examples
        room = min(
            loaded.context_length - longest_answer(task, bare, place.train),
            loaded.context_length // 2,
        )
        store = Examples(examples, vectors, encoder)
        sizes, most = _tries(place)
        rows = place.validation[:most]
        store.look_up([e.messages for e in rows])
        results: list[tuple[float, int, int, Reading, list[dict[str, Any]]]] = []
        started = time.monotonic()
        for number, size in enumerate(sizes):
            prompt = NearestPrompt.over(bare, store, size, room)
            reading, value, options = read_best(
                place,
                f"{self.name}, {size}",
                place.pool.generator(task.model),
                prompt,
                rows,
                loaded.context_length,
            )
            results.append((value, -number, size, reading, options))
            spent = (time.monotonic() - started) / 60
            # the next one is longer by half at least, and the test comes after it
            if number + 1 < len(sizes) and spent * (number + 3) / (number + 1) > place.minutes:
                notes.append(
                    f"{', '.join(map(str, sizes[number + 1 :]))} examples were not tried, to stay "
                    "within the budget."
                )
                break
        # among equals the fewest, which make the shortest prompt
        _, _, size, reading, options = max(results, key=lambda result: result[:2])
        choices = [
            Choice(
                what="how many of the nearest examples are shown",
                options=[{"value": k, "score": value} for value, _, k, _, _ in results],
                chosen=size,
                why=f"the highest score on {len(rows)} validation examples",
            ),
            reading_choice(options, reading, len(rows)),
        ]
        return Fit(
            settings={
                "model": task.model,
                "encoder": None if encoder is None else ENCODER,
                "prompt": bare.to_dict(),
                "reading": reading.to_dict(),
                "examples": size,
                "room": room,
            },
            choices=choices if rows else [],
            costs={**untrained(task, place.pool), "train_seconds": encoding},
            notes=[*bare.notes, *notes],
        )

    def open(
        self,
        task: Task,
        labels: tuple[str, ...] | None,
        folder: Path,
        settings: dict[str, Any],
        pool: ModelPool,
    ) -> Answerer:
        """The answerer, over the examples and vectors in the arm's folder."""
        return open_nearest(self.name, settings, folder / "model", pool, task=task, labels=labels)


def _tries(place: Workplace) -> tuple[tuple[int, ...], int]:
    """(numbers of examples that are tried, validation rows they are tried on)."""
    return (_LABELLED, _LABELLED_ROWS) if place.labels else (_WRITTEN, _WRITTEN_ROWS)
