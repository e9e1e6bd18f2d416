"""A deterministic answerer, and a server that runs in a thread of the test."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from luthier.data.examples import Conversation
from luthier.errors import InputError
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions, PromptTooLongError
from luthier.serving.app import create_app
from luthier.serving.server import bind


@dataclass
class Shouter:
    """Answers with the last turn in upper case, one word a token.

    A system message is put in front of the answer in brackets. Words of the question have effects:
    "overlong" does not fit the context, "refuse" is not answerable, "crash" is a fault.
    `gate` holds every call until it is set; `entered` says that a call has begun.
    """

    name: str = "shouter"
    generates: bool = True
    context_length: int | None = 64
    gate: threading.Event | None = None
    word_seconds: float = 0.0
    entered: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    calls: list[list[str]] = field(default_factory=list)
    options: list[AnswerOptions | None] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    written: int = 0

    def _begin(self, conversations: Sequence[Conversation], options: AnswerOptions | None) -> None:
        self.calls.append([c[-1].content for c in conversations])
        self.options.append(options)
        self.threads.add(threading.get_ident())
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(10)

    def _answer(self, conversation: Conversation, options: AnswerOptions | None) -> Answer:
        options = options or AnswerOptions()
        question = conversation[-1].content
        words = question.upper().split()
        if "OVERLONG" in words:
            raise PromptTooLongError(100, 64)
        if "REFUSE" in words:
            raise InputError("This cannot be answered.", fix="Ask otherwise.")
        if "CRASH" in words:
            raise ValueError("secret detail")
        if conversation[0].role == "system":
            words = [f"[{conversation[0].content}]", *words]
        cut = options.max_new_tokens is not None and len(words) > options.max_new_tokens
        text = " ".join(words[: options.max_new_tokens])
        reason = "length" if cut else "stop"
        for stop in options.stop:
            if stop in text:
                text, reason = text[: text.index(stop)].strip(), "stop"
        prompt = sum(len(message.content.split()) for message in conversation)
        return Answer(text, 0.0, prompt, len(text.split()), reason)  # type: ignore[arg-type]

    def answer(
        self, conversations: Sequence[Conversation], options: AnswerOptions | None = None
    ) -> list[Answer]:
        self._begin(conversations, options)
        return [self._answer(conversation, options) for conversation in conversations]

    def stream(
        self, conversation: Conversation, options: AnswerOptions | None = None
    ) -> Iterator[str | Answer]:
        self._begin([conversation], options)
        try:
            answer = self._answer(conversation, options)
            yield " \n"  # models like to begin with white space; it is no part of an answer
            for word in answer.text.split():
                time.sleep(self.word_seconds)
                self.written += 1
                yield word
                yield " "
                if word == "BREAK":
                    raise ValueError("secret detail")
            yield answer
        finally:
            self.closed.set()


class Chooser(Shouter):
    """Answers every question with one of its labels; nothing is generated."""

    def _answer(self, conversation: Conversation, options: AnswerOptions | None) -> Answer:
        assert options == AnswerOptions()
        return Answer("LOC" if "where" in conversation[-1].content else "NUM", 0.0)

    def stream(
        self, conversation: Conversation, options: AnswerOptions | None = None
    ) -> Iterator[str | Answer]:
        yield from self.answer([conversation], options)


@contextlib.contextmanager
def running(
    servables: Mapping[str, Callable[[], Any]], default: str, **settings: Any
) -> Iterator[str]:
    """A real uvicorn on a free port; gives its URL, without /v1."""
    app = create_app(servables, default, **settings)
    listening = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        app, log_level="critical", ws="none", lifespan="on", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
        assert not thread.is_alive()


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait for a condition that another thread brings about."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
