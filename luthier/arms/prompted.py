"""Asking a language model: what the arms that use one have in common.

A prompt, a model and the way its answers are read; how the way is chosen stands in `readings.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from luthier.arms.base import Answerer, Progress
from luthier.data.examples import Conversation, Example, Message
from luthier.errors import InputError
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions, PromptTooLongError, Sampling, Stopping
from luthier.prompts.prompt import Prompt, Shot
from luthier.task import Task

if TYPE_CHECKING:
    from luthier.generation.local import Generator
    from luthier.models.pool import ModelPool

GENERATE = "generate"
LIKELIHOOD = "likelihood"
CALIBRATED = "calibrated likelihood"


@dataclass(frozen=True)
class Reading:
    """How answers are taken from the model.

    Attributes:
        way: "generate", "likelihood" or "calibrated likelihood".
        max_new_tokens: for "generate".
        bias: for "calibrated likelihood": what to take off each label's log-likelihood.
    """

    way: str = GENERATE
    max_new_tokens: int = 64
    bias: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"way": self.way, "max_new_tokens": self.max_new_tokens, "bias": list(self.bias)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Reading:
        """The inverse of `to_dict`."""
        return cls(stored["way"], stored["max_new_tokens"], tuple(stored["bias"]))


class PromptedAnswerer(Answerer):
    """Answers by one prompt, one model and one way of reading it.

    Args:
        name: what it is called.
        generator: the model.
        prompt: instruction and examples.
        reading: how the answer is taken from the model.
        task: for sampling settings and for what to do with questions that are too long.
        labels: of a classification.
        context_length: tokens the model can hold.
        owns_model: whether the model has this arm's own weights.
    """

    def __init__(
        self,
        name: str,
        generator: Generator,
        prompt: Prompt,
        reading: Reading,
        *,
        task: Task | None = None,
        labels: tuple[str, ...] | None = None,
        context_length: int,
        owns_model: bool = False,
    ) -> None:
        self.name = name
        self.generator = generator
        self.prompt = prompt
        self.reading = reading
        self.task = task
        self.labels = labels or ()
        self.context_length = context_length
        self.generates = reading.way == GENERATE
        self._owns_model = owns_model
        self._primed = False
        self._label_ids = [prompt.answer_ids(label) for label in self.labels]

    @property
    def own_generator(self) -> Generator | None:
        """See `Answerer.own_generator`."""
        return self.generator if self._owns_model else None

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """See `Answerer.answer`."""
        asked = [self._asked(conversation, options) for conversation in conversations]
        prompts = [ids for ids, _ in asked]
        self._prime(len(prompts))
        if self.generates:
            stopping, sampling = self._settings(options)
            answers = self._write(prompts, stopping, sampling, progress)
        else:
            scores, seconds = self.generator.score(prompts, self._label_ids, progress)
            answers = [
                self._pick(row, len(prompt), spent)
                for row, prompt, spent in zip(scores, prompts, seconds, strict=True)
            ]
        return [
            replace(answer, extra={**answer.extra, "examples_left_out": left_out})
            if left_out
            else answer
            for answer, (_, left_out) in zip(answers, asked, strict=True)
        ]

    def stream(
        self, conversation: Conversation, options: AnswerOptions | None = None
    ) -> Iterator[str | Answer]:
        """See `Answerer.stream`."""
        if not self.generates:
            yield from super().stream(conversation, options)
            return
        self._prime(1)
        stopping, sampling = self._settings(options)
        prompt, _ = self._asked(conversation, options)
        yield from self.generator.stream(prompt, self._within(prompt, stopping), sampling)

    def _write(
        self,
        prompts: list[list[int]],
        stopping: Stopping,
        sampling: Sampling,
        progress: Progress | None,
    ) -> list[Answer]:
        """Answers; prompts that nearly fill the context get what room there is."""
        tight = [
            row for row, ids in enumerate(prompts) if self._within(ids, stopping) is not stopping
        ]
        roomy = [row for row in range(len(prompts)) if row not in set(tight)]
        written = self.generator.generate(
            [prompts[row] for row in roomy], stopping, sampling, progress
        )
        answers = dict(zip(roomy, written, strict=True))
        for row in tight:
            own = self._within(prompts[row], stopping)
            answers[row] = self.generator.generate([prompts[row]], own, sampling, progress)[0]
        return [answers[row] for row in range(len(prompts))]

    def _within(self, prompt: list[int], stopping: Stopping) -> Stopping:
        room = (self.context_length or 0) - len(prompt)
        if room >= stopping.max_new_tokens:
            return stopping
        return replace(stopping, max_new_tokens=room)

    def _prime(self, questions: int) -> None:
        """Read instruction and examples once, for questions that come one at a time."""
        if questions == 1 and not self._primed:
            self._primed = True
            self.generator.prime([self.prompt.ask((Message("user", x),)) for x in ("a", "0")])

    def _asked(
        self, conversation: Conversation, options: AnswerOptions | None
    ) -> tuple[list[int], int]:
        """(what the model reads, how many of the prompt's examples had to be left out)."""
        if self.generates:  # what the asker wants written must fit; else one token at least
            new = (options and options.max_new_tokens) or 1
        else:
            new = max((len(ids) for ids in self._label_ids), default=1)
        room = (self.context_length or 0) - new
        try:
            return fitting(self.prompt, conversation, room)
        except PromptTooLongError:
            if self.task is None or self.task.training.overlong != "cut":
                raise
        from luthier.training.rows import cut_to_fit

        bare = self.prompt.with_shots(()) if self.prompt.shots else self.prompt
        return bare.ask(cut_to_fit(bare, conversation, room)), len(self.prompt.shots)

    def _room(self, options: AnswerOptions | None) -> int:
        return (options and options.max_new_tokens) or self.reading.max_new_tokens

    def _settings(self, options: AnswerOptions | None) -> tuple[Stopping, Sampling]:
        wanted = self.task.generation if self.task else None
        sampling = Sampling(
            temperature=wanted.temperature if wanted else 0.0,
            top_p=wanted.top_p if wanted else 1.0,
            seed=self.task.seed if self.task else 0,
        )
        strings = self.prompt.stop_strings
        if options is not None:
            strings = (*strings, *options.stop)
            if options.temperature is not None:
                sampling = replace(sampling, temperature=options.temperature)
            if options.top_p is not None:
                sampling = replace(sampling, top_p=options.top_p)
            if options.seed is not None:
                sampling = replace(sampling, seed=options.seed)
        return Stopping(self.prompt.stop_ids, strings, self._room(options)), sampling

    def _pick(self, scores: list[float], prompt_tokens: int, seconds: float) -> Answer:
        if self.reading.way == CALIBRATED:
            scores = [s - b for s, b in zip(scores, self.reading.bias, strict=True)]
        top = max(scores)
        weights = [math.exp(s - top) for s in scores]
        best = scores.index(top)
        return Answer(
            self.labels[best],
            seconds=seconds,
            prompt_tokens=prompt_tokens,
            completion_tokens=len(self._label_ids[best]),
            extra={
                "probabilities": {
                    label: round(w / sum(weights), 6)
                    for label, w in zip(self.labels, weights, strict=True)
                }
            },
        )


def open_prompted(
    name: str,
    settings: dict[str, Any],
    pool: ModelPool,
    *,
    task: Task,
    labels: tuple[str, ...] | None = None,
) -> PromptedAnswerer:
    """An answerer of settings that hold "model", "prompt" and "reading", over the shared model."""
    from luthier.models.heads import stop_ids

    loaded = pool.causal(settings["model"])
    return PromptedAnswerer(
        name,
        pool.generator(settings["model"]),
        Prompt.from_dict(settings["prompt"], loaded.tokenizer, stop_ids=stop_ids(loaded.model)),
        Reading.from_dict(settings["reading"]),
        task=task,
        labels=labels,
        context_length=loaded.context_length,
    )


def instructed(task: Task, pool: ModelPool) -> Prompt:
    """The task's instruction as its model reads it."""
    from luthier.models.heads import stop_ids

    loaded = pool.causal(task.model)
    return Prompt(loaded.tokenizer, instruction=task.instruction, stop_ids=stop_ids(loaded.model))


def untrained(task: Task, pool: ModelPool) -> dict[str, Any]:
    """The costs of an arm that trains nothing."""
    from luthier.models.adapters import counts

    total = counts(pool.causal(task.model).model)[1]
    return {"train_seconds": 0.0, "trained_parameters": 0, "total_parameters": total}


def fitting(prompt: Prompt, conversation: Conversation, room: int) -> tuple[list[int], int]:
    """(the ids of a question, how many examples were left out so that they are at most `room`).

    The first examples go first: what stands nearest to the question is heeded most.

    Raises:
        PromptTooLongError: the question does not fit without any example.
    """
    ids = prompt.ask(conversation)
    longest = len(ids)
    shots = prompt.shots
    for left_out in range(len(shots) + 1):
        if left_out:
            ids = prompt.with_shots(shots[left_out:]).ask(conversation)
        if len(ids) <= room:
            return ids, left_out
    raise PromptTooLongError(longest, room)


def best_label(scores: Sequence[float], reading: Reading) -> int:
    """The place of the likeliest label, by the log-likelihoods of all of them."""
    if reading.way == CALIBRATED:
        scores = [s - b for s, b in zip(scores, reading.bias, strict=True)]
    return max(range(len(scores)), key=lambda index: scores[index])


def shots_from(examples: Sequence[Example]) -> tuple[Shot, ...]:
    """Training examples as worked examples of a prompt.

    Raises:
        InputError: an example has several turns, which cannot be shown as one question.
    """
    for example in examples:
        if len(example.messages) != 1:
            raise InputError(f"{example.source} has several turns and cannot be an example.")
    return tuple(Shot(e.input, e.output) for e in examples)
