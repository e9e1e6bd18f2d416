"""What the asker may decide about an answer, and what happens when the question is too long."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.errors import InputError


@dataclass(frozen=True)
class AnswerOptions:
    """What the asker wants of one answer. None leaves a thing to the answerer's own setting.

    Equal options may be answered in one batch, so the class is frozen and hashable.

    Attributes:
        max_new_tokens: the most tokens that may be written, the stop token included.
        temperature: 0 is greedy; 1 samples from the model's own distribution.
        top_p: sample only among the likeliest tokens that together have this probability.
        stop: writing ends before the first of these strings; it is not part of the answer.
        seed: makes a sampled answer repeatable.
        groups: the access groups of whoever asks, for answers from documents; None leaves those
            that the run was measured with.
    """

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    groups: frozenset[str] | None = None

    @property
    def depends_on_batch(self) -> bool:
        """Whether the answer could change with the company it is computed in.

        Each answer draws its own random numbers, but sums round differently in a batch, and a
        draw that falls on the border between two tokens may then go either way. Whoever gives a
        seed wants the same answer again, so such a question is computed alone.
        """
        return self.seed is not None and self.temperature != 0


@dataclass(frozen=True)
class Stopping:
    """When an answer has ended.

    Attributes:
        ids: tokens that end it; not part of the text.
        strings: texts that end it; not part of the text.
        max_new_tokens: where it is cut off.
    """

    ids: frozenset[int]
    strings: tuple[str, ...] = ()
    max_new_tokens: int = 256


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: greedily at temperature 0, else from the top-p nucleus."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class PromptTooLongError(InputError):
    """A prompt that does not fit into the model's context.

    Args:
        prompt_tokens: tokens of the rendered prompt.
        context_length: tokens the model can read and write together.
    """

    def __init__(self, prompt_tokens: int, context_length: int) -> None:
        super().__init__(
            f"This model's maximum context length is {context_length} tokens; the messages "
            f"have {prompt_tokens} tokens.",
            fix="Shorten the messages.",
        )
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length
