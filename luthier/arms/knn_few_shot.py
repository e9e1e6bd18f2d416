"""The training examples most like the question, as worked examples in front of it.

Which examples a prompt shows matters more than how many; the nearest ones by a sentence encoder are
a good choice (Liu et al. 2022, arXiv 2101.06804). Every question then has a prompt of its own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.arms.base import ARMS, Answerer, Choice, Fit, Progress, Workplace
from luthier.arms.prompted import (
    PromptedAnswerer,
    Reading,
    instructed,
    longest_answer,
    read_best,
    reading_choice,
    shots_from,
    untrained,
)
from luthier.arms.zero_shot import ZeroShot
from luthier.data.examples import Conversation, Example, Message
from luthier.data.folding import fold
from luthier.errors import InputError, ModelError
from luthier.files import read_jsonl, write_atomically, write_jsonl
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions
from luthier.models.pool import ModelPool
from luthier.prompts.prompt import Prompt
from luthier.task import Task

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: An example and its likeness to the question.
Near = tuple[Example, float]

#: The encoder that retrieval uses.
ENCODER = "all-minilm-l6-v2"
#: Numbers of examples that are tried, where answers are labels and where they are written.
_LABELLED, _WRITTEN = (4, 8, 16), (2, 4)
#: Validation rows they are tried on.
_LABELLED_ROWS, _WRITTEN_ROWS = 40, 16
#: Training rows encoded between two looks at the clock, and the share of the arm's time they get.
_SLICE, _SHARE = 256, 0.25
#: Questions whose neighbours are kept in memory.
_KEPT = 4096
_ROWS, _VECTORS = "examples.jsonl", "vectors.safetensors"


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
        encoder, notes = _encoder(place.pool)
        examples, vectors = _encoded(place, single, encoder)
        if len(examples) < len(single):
            notes.append(
                f"{len(examples):,} of {len(single):,} training examples, drawn at random, were "
                "encoded and can be shown, to stay within the budget."
            )
        _store(place.folder / "model", examples, vectors)
        encoding = time.perf_counter() - began
        loaded = place.pool.causal(task.model)
        bare = instructed(task, place.pool)
        # as in few-shot, half of the context stays free of examples
        room = min(
            loaded.context_length - longest_answer(task, bare, place.train),
            loaded.context_length // 2,
        )
        store = _Examples(examples, vectors, encoder)
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
        from luthier.models.heads import stop_ids

        loaded = pool.causal(settings["model"])
        bare = Prompt.from_dict(
            settings["prompt"], loaded.tokenizer, stop_ids=stop_ids(loaded.model)
        )
        encoder = pool.encoder(settings["encoder"]) if settings["encoder"] else None
        store = _Examples(*_stored(folder / "model"), encoder)
        return _Answerer(
            self.name,
            pool.generator(settings["model"]),
            NearestPrompt.over(bare, store, settings["examples"], settings["room"]),
            Reading.from_dict(settings["reading"]),
            task=task,
            labels=labels,
            context_length=loaded.context_length,
        )


class NearestPrompt(Prompt):
    """A prompt that shows each question the examples nearest to it, the nearest last."""

    store: _Examples
    _size: int
    _room: int

    @classmethod
    def over(cls, bare: Prompt, store: _Examples, size: int, room: int) -> NearestPrompt:
        """A prompt with examples.

        Args:
            bare: the instruction.
            store: what may be shown.
            size: examples shown, fewer where they do not fit.
            room: tokens that question and examples may have.
        """
        made = cls(bare.tokenizer, instruction=bare.instruction, stop_ids=tuple(bare.stop_ids))
        made.store, made._size, made._room = store, size, room
        return made

    def ask(self, conversation: Conversation) -> list[int]:
        """See `Prompt.ask`. The examples furthest from the question are left out until it fits."""
        return self._fitting(conversation)[0]

    def shown(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The id and likeness of the examples that a question is shown, in their order."""
        return [
            {"id": example.id, "likeness": round(likeness, 4)}
            for example, likeness in self._fitting(conversation)[1]
        ]

    def _fitting(self, conversation: Conversation) -> tuple[list[int], list[Near]]:
        near = self.store.nearest(conversation, self._size)
        while True:
            shown = near[::-1]  # the nearest one stands right above the question
            self.shots = shots_from([example for example, _ in shown])
            try:
                ids = super().ask(conversation)
            finally:
                self.shots = ()
            if not near or len(ids) <= self._room:
                return ids, shown
            near = near[:-1]


class _Answerer(PromptedAnswerer):
    """Says with every answer which examples were shown."""

    prompt: NearestPrompt

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """See `Answerer.answer`."""
        began = time.perf_counter()
        self.prompt.store.look_up(conversations)
        searching = (time.perf_counter() - began) / max(1, len(conversations))
        answers = super().answer(conversations, options, progress)
        return [
            replace(
                answer,
                seconds=answer.seconds + searching,
                extra={**answer.extra, "shown": self.prompt.shown(conversation)},
            )
            for answer, conversation in zip(answers, conversations, strict=True)
        ]


class _Examples:
    """Training examples that can be found by likeness.

    Args:
        examples: n of a single turn.
        vectors: (n, d), of length 1; None where words are compared.
        encoder: that made the vectors.
    """

    def __init__(self, examples: Sequence[Example], vectors: Array | None, encoder: Any) -> None:
        self._examples = list(examples)
        self._folded = [fold(example.input) for example in examples]
        self._encoder = encoder
        self._words: Any = None
        self._vectors: Any = vectors
        if vectors is None:
            from sklearn.feature_extraction.text import TfidfVectorizer

            self._words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
            try:
                self._vectors = self._words.fit_transform([e.input for e in examples])
            except ValueError:  # not a word in any of them
                self._words = None
        self._likeness: dict[str, Array] = {}

    def look_up(self, conversations: Sequence[Conversation]) -> None:
        """Encode questions together, ahead of `nearest`."""
        asked = dict.fromkeys(_question(one) for one in conversations)
        new = [text for text in asked if text not in self._likeness]
        if len(self._likeness) + len(new) > _KEPT:
            self._likeness.clear()
            new = list(asked)
        for text, row in zip(new, self._like(new), strict=True):
            self._likeness[text] = row

    def nearest(self, conversation: Conversation, k: int) -> list[Near]:
        """The `k` examples most like a question, best first, with their likeness (cosine).

        One whose input is the question itself, up to case and punctuation, is not among them: its
        answer would be copied, and what is asked in earnest is new.
        """
        import numpy as np

        self.look_up([conversation])
        text = _question(conversation)
        likeness, same = self._likeness[text], fold(text)
        # equal ones in the order of the rows, the same on any machine
        order = np.argsort(-likeness, kind="stable")
        found: list[Near] = []
        for row in order:
            if len(found) == k:
                break
            if self._folded[row] != same:
                found.append((self._examples[row], float(likeness[row])))
        return found

    def _like(self, texts: Sequence[str]) -> Array:
        """(texts, examples)."""
        import numpy as np

        if not texts:
            return np.zeros((0, len(self._examples)), dtype=np.float32)
        if self._encoder is not None:
            found: Array = self._encoder.encode(list(texts))[0] @ self._vectors.T
            return found
        if self._words is None:
            return np.zeros((len(texts), len(self._examples)), dtype=np.float32)
        counted: Array = (self._words.transform(texts) @ self._vectors.T).toarray()
        return counted


def _encoder(pool: ModelPool) -> tuple[Any, list[str]]:
    """(the sentence encoder, or None where it cannot be had; what is to be said of that)."""
    try:
        return pool.encoder(ENCODER), []
    except ModelError as error:
        return None, [
            f"The sentence encoder {ENCODER} cannot be had ({error}) Examples were chosen by the "
            "words they share with the question (TF-IDF) instead."
        ]


def _encoded(
    place: Workplace, single: Sequence[Example], encoder: Any
) -> tuple[list[Example], Array | None]:
    """The examples that can be shown and their vectors (n, d); where time is short, of a part."""
    import numpy as np

    if encoder is None:
        return list(single), None
    order = random.Random(f"knn-few-shot-{place.task.seed}").sample(range(len(single)), len(single))
    parts: list[Array] = []
    done = 0
    began = time.monotonic()
    with place.reporter.work(f"{KnnFewShot.name}: encoding", len(single)) as bar:
        while done < len(single):
            texts = [single[row].input for row in order[done : done + _SLICE]]
            parts.append(encoder.encode(texts, progress=bar.advance)[0])
            done += len(texts)
            if (time.monotonic() - began) / 60 > _SHARE * place.minutes:
                break
    back = np.argsort(order[:done])  # as the rows lie in the file
    return [single[order[row]] for row in back], np.concatenate(parts)[back]


def _store(folder: Path, examples: Sequence[Example], vectors: Array | None) -> None:
    from safetensors.numpy import save_file

    rows = ({"id": e.id, "input": e.input, "output": e.output} for e in examples)
    write_jsonl(folder / _ROWS, rows)
    if vectors is not None:
        write_atomically(folder / _VECTORS, lambda part: save_file({"vectors": vectors}, str(part)))


def _stored(folder: Path) -> tuple[list[Example], Array | None]:
    from safetensors.numpy import load_file

    examples = [
        Example(row["id"], (Message("user", row["input"]),), row["output"])
        for row in read_jsonl(folder / _ROWS)
    ]
    path = folder / _VECTORS
    return examples, load_file(str(path))["vectors"] if path.is_file() else None


def _question(conversation: Conversation) -> str:
    return conversation[-1].content


def _tries(place: Workplace) -> tuple[tuple[int, ...], int]:
    """(numbers of examples that are tried, validation rows they are tried on)."""
    return (_LABELLED, _LABELLED_ROWS) if place.labels else (_WRITTEN, _WRITTEN_ROWS)
