"""Answering with a model that has a head for labels: classes, or entities in a text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.arms.base import Answerer, Progress
from luthier.data.entities import entities
from luthier.data.examples import Conversation
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions, PromptTooLongError
from luthier.task import Task

if TYPE_CHECKING:
    from luthier.models.loading import LoadedModel
    from luthier.prompts.prompt import Prompt

#: Tokens computed at once, padding counted.
_BATCH_TOKENS = 4096


class HeadedAnswerer(Answerer):
    """What classifiers and taggers share: rows of similar length are computed together.

    Args:
        name: what it is called.
        loaded: its `model` is a `models.headed.Headed`.
        prompt: by which a causal model is asked; None where it reads the text alone.
        cut: whether questions that are too long for a prompt are cut instead of refused.
    """

    def __init__(
        self, name: str, loaded: LoadedModel, prompt: Prompt | None = None, *, cut: bool = False
    ) -> None:
        self.name = name
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.prompt = prompt
        self.cut = cut
        self.context_length = loaded.context_length
        self.labels: tuple[str, ...] = loaded.model.spec.labels

    def in_batches(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """Indices of rows of ids, similar lengths together."""
        from luthier.training.batches import micro_batches

        return micro_batches(range(len(rows)), [len(row) for row in rows], _BATCH_TOKENS)


class Classifier(HeadedAnswerer):
    """Answers with the likeliest label, and tells the probability of each."""

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """See `Answerer.answer`."""
        import torch

        del options
        started = time.perf_counter()
        read = [self._ids(conversation) for conversation in conversations]
        rows = [ids for ids, _ in read]
        likely: list[list[float]] = [[] for _ in rows]
        with torch.inference_mode():
            for part in self.in_batches(rows):
                found = torch.softmax(self.model.logits([rows[row] for row in part]), -1)
                for row, one in zip(part, found.tolist(), strict=True):
                    likely[row] = one
                if progress:
                    progress(len(part))
        seconds = (time.perf_counter() - started) / max(1, len(rows))
        return [
            Answer(
                self.labels[max(range(len(one)), key=one.__getitem__)],
                seconds=seconds,
                prompt_tokens=len(ids),
                extra={
                    "probabilities": {
                        label: round(p, 6) for label, p in zip(self.labels, one, strict=True)
                    },
                    **({"cut_tokens": lost} if lost else {}),
                },
            )
            for one, (ids, lost) in zip(likely, read, strict=True)
        ]

    def _ids(self, conversation: Conversation) -> tuple[list[int], int]:
        from luthier.training.objectives.sequence_classification import question_ids

        longest = self.context_length or 0
        if self.prompt is not None and not self.cut:
            ids = self.prompt.ask(conversation)
            if len(ids) > longest:
                raise PromptTooLongError(len(ids), longest)
            return ids, 0
        return question_ids(self.tokenizer, self.prompt, conversation, longest)


class Tagger(HeadedAnswerer):
    """Answers with the entities of the last turn, in the text form of kind ner; texts of any
    length, read in windows."""

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """See `Answerer.answer`."""
        import numpy as np
        import torch

        from luthier.models.encoding import windows
        from luthier.models.tags import best_tags

        del options
        started = time.perf_counter()
        texts = [conversation[-1].content for conversation in conversations]
        parts = [
            (index, window)
            for index, text in enumerate(texts)
            for window in windows(self.tokenizer, text, self.context_length or 0)
        ]
        words = [text.split() for text in texts]
        outside = np.full(len(self.labels), -np.inf)
        outside[0] = 0.0  # a word without a token of its own is in no entity
        scores = [np.tile(outside, (len(found), 1)) for found in words]
        rows = [window.ids for _, window in parts]
        with torch.inference_mode():
            for batch in self.in_batches(rows):
                width = max(len(rows[row]) for row in batch)
                chosen = torch.zeros(len(batch), width, dtype=torch.bool)
                for place, row in enumerate(batch):
                    chosen[place, list(parts[row][1].words.values())] = True
                found = self.model.logits([rows[row] for row in batch], chosen)
                flat = torch.log_softmax(found, -1).double().cpu().numpy()
                start = 0
                for row in batch:
                    index, window = parts[row]
                    # the chosen tokens come in their order, and so do the words they begin
                    size = len(window.words)
                    scores[index][list(window.words)] = flat[start : start + size]
                    start += size
        if progress:
            progress(len(texts))
        seconds = (time.perf_counter() - started) / max(1, len(texts))
        read = [0] * len(texts)
        for index, window in parts:
            read[index] += len(window.ids)
        return [
            Answer(
                entities(found, best_tags(table, self.labels)), seconds=seconds, prompt_tokens=count
            )
            for found, table, count in zip(words, scores, read, strict=True)
        ]


def open_headed(name: str, folder: Path, task: Task | None) -> HeadedAnswerer:
    """What a stage with a head stored, ready to answer.

    Args:
        name: what it is to be called.
        folder: holds head.json.
        task: says where a relative base model starts, and what to do with long questions.

    Raises:
        ModelError: see `models.headed.load_headed`.
    """
    from luthier.files import read_json
    from luthier.models.headed import load_headed
    from luthier.models.pool import answering_dtype
    from luthier.prompts.prompt import Prompt

    loaded = load_headed(folder, answering_dtype(), base=task.folder if task else None)
    if loaded.model.spec.of == "token":
        return Tagger(name, loaded)
    stored: dict[str, Any] = read_json(folder / "prompt.json")
    prompt = Prompt.from_dict(stored, loaded.tokenizer) if "hash" in stored else None
    cut = task is not None and task.training.overlong == "cut"
    return Classifier(name, loaded, prompt, cut=cut)
