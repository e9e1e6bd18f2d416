"""Training examples found by their likeness to a question, and prompts that show them.

What the arms share that give every question examples of its own. Likeness is the cosine of a
sentence encoder's vectors, or, where it cannot be had, of TF-IDF.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.arms.base import Progress, Workplace
from luthier.arms.prompted import PromptedAnswerer, Reading, shots_from
from luthier.data.examples import Conversation, Example, Message
from luthier.data.folding import fold
from luthier.errors import ModelError
from luthier.files import hash_of, read_jsonl, write_atomically, write_jsonl
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
#: Training rows encoded between two looks at the clock, and the share of the arm's time they get.
_SLICE, _SHARE = 256, 0.25
#: Questions whose neighbours are kept in memory, and how many of each.
_KEPT, _NEIGHBOURS = 4096, 64
#: Likenesses that are computed at once.
_AT_ONCE = 16_000_000
_ROWS, _VECTORS = "examples.jsonl", "vectors.safetensors"


def open_nearest(
    name: str,
    settings: dict[str, Any],
    folder: Path,
    pool: ModelPool,
    *,
    task: Task,
    labels: tuple[str, ...] | None,
) -> NearestAnswerer:
    """The answerer of settings that hold "model", "encoder", "prompt", "reading", "examples" (how
    many are shown) and "room", over what `store_examples` kept in `folder`."""
    from luthier.models.heads import stop_ids

    loaded = pool.causal(settings["model"])
    bare = Prompt.from_dict(settings["prompt"], loaded.tokenizer, stop_ids=stop_ids(loaded.model))
    encoder = pool.encoder(settings["encoder"]) if settings["encoder"] else None
    store = Examples(*stored_examples(folder), encoder)
    return NearestAnswerer(
        name,
        pool.generator(settings["model"]),
        NearestPrompt.over(bare, store, settings["examples"], settings["room"]),
        Reading.from_dict(settings["reading"]),
        task=task,
        labels=labels,
        context_length=loaded.context_length,
    )


class NearestPrompt(Prompt):
    """A prompt that shows each question the examples nearest to it, the nearest last."""

    store: Examples
    size: int
    room: int

    @classmethod
    def over(cls, bare: Prompt, store: Examples, size: int, room: int) -> NearestPrompt:
        """A prompt with examples.

        Args:
            bare: the instruction.
            store: what may be shown.
            size: examples shown, fewer where they do not fit.
            room: tokens that question and examples may have.
        """
        made = cls(bare.tokenizer, instruction=bare.instruction, stop_ids=tuple(bare.stop_ids))
        made.store, made.size, made.room = store, size, room
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
        near = self.store.nearest(conversation, self.size)
        while True:
            shown = near[::-1]  # the nearest one stands right above the question
            self.shots = shots_from([example for example, _ in shown])
            try:
                ids = super().ask(conversation)
            finally:
                self.shots = ()
            if not near or len(ids) <= self.room:
                return ids, shown
            near = near[:-1]


class NearestAnswerer(PromptedAnswerer):
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


class Examples:
    """Training examples that can be found by likeness.

    Args:
        examples: n of a single turn.
        vectors: (n, d), of length 1; None where words are compared.
        encoder: that made the vectors.
    """

    def __init__(self, examples: Sequence[Example], vectors: Array | None, encoder: Any) -> None:
        self.examples = list(examples)
        self._folded = [fold(example.input) for example in examples]
        self._encoder = encoder
        self._words: Any = None
        self._vectors: Any = vectors
        if vectors is None:
            from sklearn.feature_extraction.text import TfidfVectorizer

            self._words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
            try:
                self._vectors = self._words.fit_transform([e.input for e in examples])
            except ValueError:  # no examples, or not a word in any of them
                self._words = None
        #: by question: its nearest examples, best first, and their likeness
        self._near: dict[str, tuple[Array, Array]] = {}

    @property
    def vectors(self) -> Any:
        """(n, d), of length 1, sparse where words are compared; None without a word."""
        return self._vectors

    def part(self, kept: Sequence[bool]) -> Examples:
        """Those of the examples that are kept."""
        rows = [row for row, keep in enumerate(kept) if keep]
        vectors = None if self._encoder is None else self._vectors[rows]
        return Examples([self.examples[row] for row in rows], vectors, self._encoder)

    def look_up(self, conversations: Sequence[Conversation]) -> None:
        """Encode questions together, ahead of `nearest`."""
        asked = dict.fromkeys(_question(one) for one in conversations)
        new = [text for text in asked if text not in self._near]
        if len(self._near) + len(new) > _KEPT:
            self._near.clear()
            new = list(asked)
        at_once = max(1, _AT_ONCE // max(1, len(self.examples)))
        for start in range(0, len(new), at_once):
            some = new[start : start + at_once]
            for text, row in zip(some, self._like(some), strict=True):
                self._near[text] = _first(row, _NEIGHBOURS)

    @cached_property
    def hash(self) -> str:
        """Of all that can be shown."""
        return hash_of([[e.id, e.input, e.output] for e in self.examples])

    def nearest(self, conversation: Conversation, k: int) -> list[Near]:
        """The `k` examples most like a question, best first, with their likeness (cosine).

        One whose input is the question itself, up to case and punctuation, is not among them: its
        answer would be copied, and what is asked in earnest is new.
        """
        self.look_up([conversation])
        text = _question(conversation)
        same = fold(text)
        order, likeness = self._near[text]
        found = self._unlike(same, order, likeness, k)
        if len(found) < k and len(order) < len(self.examples):
            # the question stands among the examples many times
            (row,) = self._like([text])
            found = self._unlike(same, *_first(row, len(row)), k)
        return found

    def _unlike(self, same: str, order: Array, likeness: Array, k: int) -> list[Near]:
        """The first `k` whose input is another."""
        near = zip(order.tolist(), likeness.tolist(), strict=True)
        kept = ((self.examples[row], alike) for row, alike in near if self._folded[row] != same)
        return list(itertools.islice(kept, k))

    def _like(self, texts: Sequence[str]) -> Array:
        """(texts, examples)."""
        import numpy as np

        if not texts:
            return np.zeros((0, len(self.examples)), dtype=np.float32)
        if self._encoder is not None:
            found: Array = self._encoder.encode(list(texts))[0] @ self._vectors.T
            return found
        if self._words is None:
            return np.zeros((len(texts), len(self.examples)), dtype=np.float32)
        counted: Array = (self._words.transform(texts) @ self._vectors.T).toarray()
        return counted


def _first(likeness: Array, count: int) -> tuple[Array, Array]:
    """(places of the highest, best first; their values); equal ones in the order of the rows, the
    same on any machine."""
    import numpy as np

    order = np.argsort(-likeness, kind="stable")[:count]
    return order.astype(np.int32), likeness[order]


def encoder_of(pool: ModelPool) -> tuple[Any, list[str]]:
    """(the sentence encoder, or None where it cannot be had; what is to be said of that)."""
    try:
        return pool.encoder(ENCODER), []
    except ModelError as error:
        return None, [
            f"The sentence encoder {ENCODER} cannot be had ({error}) Examples were chosen by the "
            "words they share with the question (TF-IDF) instead."
        ]


def encoded(
    place: Workplace, name: str, single: Sequence[Example], encoder: Any
) -> tuple[list[Example], Array | None]:
    """The examples that can be shown and their vectors (n, d); where time is short, of a part.

    Args:
        place: of the arm.
        name: of the arm.
        single: training examples of a single turn.
        encoder: None where words are compared; there are no vectors then.
    """
    import numpy as np

    if encoder is None:
        return list(single), None
    order = random.Random(f"{name}-{place.task.seed}").sample(range(len(single)), len(single))
    parts: list[Array] = []
    done = 0
    began = time.monotonic()
    with place.reporter.work(f"{name}: encoding", len(single)) as bar:
        while done < len(single):
            texts = [single[row].input for row in order[done : done + _SLICE]]
            parts.append(encoder.encode(texts, progress=bar.advance)[0])
            done += len(texts)
            if (time.monotonic() - began) / 60 > _SHARE * place.minutes:
                break
    back = np.argsort(order[:done])  # as the rows lie in the file
    return [single[order[row]] for row in back], np.concatenate(parts)[back]


def store_examples(folder: Path, examples: Sequence[Example], vectors: Array | None) -> None:
    """Keep examples and their vectors in a folder, for `stored_examples`."""
    from safetensors.numpy import save_file

    rows = ({"id": e.id, "input": e.input, "output": e.output} for e in examples)
    write_jsonl(folder / _ROWS, rows)
    if vectors is not None:
        write_atomically(folder / _VECTORS, lambda part: save_file({"vectors": vectors}, str(part)))


def stored_examples(folder: Path) -> tuple[list[Example], Array | None]:
    """What `store_examples` kept."""
    from safetensors.numpy import load_file

    examples = [
        Example(row["id"], (Message("user", row["input"]),), row["output"])
        for row in read_jsonl(folder / _ROWS)
    ]
    path = folder / _VECTORS
    return examples, load_file(str(path))["vectors"] if path.is_file() else None


def _question(conversation: Conversation) -> str:
    return conversation[-1].content
