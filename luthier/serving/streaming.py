"""Answers on their way to the client, piece by piece, and clients that leave before the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from luthier.data.examples import Conversation
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions
from luthier.serving.batcher import Batcher

T = TypeVar("T")
_log = logging.getLogger("luthier.serving")


class ClientGoneError(Exception):
    """The client closed the connection: nobody reads what would be answered."""


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Await `work`; when the client leaves first, cancel it.

    Raises:
        ClientGoneError: the client left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


class Pieces:
    """A streamed answer on the event loop's side of the batcher's thread.

    What the model has written waits here for a slow client, so that such a client does not keep
    the model from the next question.
    """

    def __init__(
        self, batcher: Batcher, conversation: Conversation, options: AnswerOptions
    ) -> None:
        loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | Answer | Exception] = asyncio.Queue()

        def emit(piece: str | Answer | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
                loop.call_soon_threadsafe(self._queue.put_nowait, piece)

        self._sent = ""
        self._white = ""
        self.cancel: Callable[[], None] = batcher.stream(conversation, options, emit)

    async def next(self) -> str | Answer:
        """The next text that is not empty, then the answer.

        White space around the whole text is left out, as it is from `Answer.text`.

        Raises:
            Exception: what the answerer raised.
        """
        while True:
            piece = await self._queue.get()
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, Answer):
                rest = self._rest(piece)
                if rest:
                    self._queue.put_nowait(piece)
                    return rest
                return piece
            if fresh := self._without_edges(piece):
                self._sent += fresh
                return fresh

    def _without_edges(self, piece: str) -> str:
        """The piece without white space that may turn out to lead or to trail the answer."""
        text = self._white + piece
        if not self._sent:
            text = text.lstrip()
        kept = text.rstrip()
        self._white = text[len(kept) :]
        return kept

    def _rest(self, answer: Answer) -> str:
        """What the answer holds beyond the pieces; all of it when there were none."""
        if not answer.text.startswith(self._sent):
            # without the text: it may be of documents that readers of the log may not read
            _log.warning("the streamed text differs from the answer")
            return ""
        rest = answer.text[len(self._sent) :]
        self._sent = answer.text
        return rest


class EventStream(Response):
    """Server-sent events; stops, and calls `close`, when they end or the client leaves."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        close: Callable[[], None],
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", **(headers or {})})
        del self.headers["content-length"]
        self._events = events
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await while_connected(receive, self._write(send))
        except (ClientGoneError, OSError):
            pass
        finally:
            self._close()

    async def _write(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        async for data in self._events:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
