"""What the server needs of an answerer: anything that can do the task can be served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from luthier.data.examples import Conversation
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions


@runtime_checkable
class Servable(Protocol):
    """An answerer that can be put behind the server.

    The server calls one servable from one thread, one call at a time, never the thread that loaded
    it. Servables that share a model must guard it themselves.

    A conversation may start with one message of role "system"; it stands in the place of the
    task's instruction. It ends with the user's turn.

    Raising `PromptTooLongError` refuses one conversation as too long, any other `InputError` as
    not answerable; when a batch fails, its conversations are asked again one by one, so that a
    refused one does not take its neighbours down.
    """

    @property
    def name(self) -> str:
        """The model id."""

    @property
    def generates(self) -> bool:
        """Whether text is written token by token.

        False for answers chosen from a list (the majority, a linear probe, the likeliest label):
        sampling options mean nothing to those, and none are passed to them.
        """

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and answer together; None when there is no such bound."""

    def answer(
        self, conversations: Sequence[Conversation], options: AnswerOptions | None = None
    ) -> list[Answer]:
        """One answer for each conversation, in order."""

    def stream(
        self, conversation: Conversation, options: AnswerOptions | None = None
    ) -> Iterator[str | Answer]:
        """Pieces of text as they are written, then the whole `Answer`, last.

        The joined pieces are the answer's text, but for white space around it. The iterator is
        closed early when nobody listens any more; a generator can clean up in `finally`.
        """
