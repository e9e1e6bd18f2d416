"""One chat completion request: from its body to its response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from fastapi import Request
from fastapi.responses import Response

from luthier.errors import LuthierError
from luthier.generation.answers import Answer
from luthier.serving import requests
from luthier.serving.access import narrowed
from luthier.serving.api_errors import ApiError, as_api_error
from luthier.serving.batcher import Batcher, ClosedError
from luthier.serving.gate import GROUPS
from luthier.serving.metrics import Metrics
from luthier.serving.pool import ModelPool
from luthier.serving.replies import DONE, Completion, Json, context_of, event
from luthier.serving.requests import ChatRequest
from luthier.serving.streaming import ClientGoneError, EventStream, Pieces, while_connected

#: The header that says which parameters had no effect.
NOTE = "x-luthier-note"


class Chat:
    """Answers POST /v1/chat/completions.

    Args:
        pool: the models.
        metrics: where answers are counted.
    """

    def __init__(self, pool: ModelPool, metrics: Metrics) -> None:
        self._pool = pool
        self._metrics = metrics

    async def respond(self, body: ChatRequest, request: Request) -> Response:
        """The response: a completion, or a stream of chunks.

        Raises:
            ApiError: the request is refused, or answering failed before anything was sent.
            ClientGoneError: the client left before the answer was there.
        """
        began = time.perf_counter()
        name = self._pool.known(body.model)
        requests.refuse_unsupported(body)
        groups = narrowed(request.scope.get(GROUPS), body.access_groups)
        conversation = requests.conversation_of(body)
        options = requests.options_of(body)
        batcher = self._pool.loaded(name) or await self._load(name, request)
        headers = {}
        if not batcher.servable.generates:
            options, note = requests.without_sampling(options)
            if note is not None:
                headers[NOTE] = note
        else:
            options = replace(options, groups=groups)
        requests.refuse_longer(options, batcher.servable.context_length)
        frame = Completion(name)
        try:
            if not body.stream:
                future = asyncio.wrap_future(batcher.submit(conversation, options))
                answer = await while_connected(request.receive, future)
                self._metrics.answered(name, answer, time.perf_counter() - began)
                return Json(frame.whole(answer), headers=headers)
            pieces = Pieces(batcher, conversation, options)
            try:
                # refusals come with the first piece: they still get a status of their own
                first = await while_connected(request.receive, pieces.next())
            except BaseException:
                pieces.cancel()
                raise
        except ClientGoneError:
            raise
        except Exception as error:
            raise as_api_error(error, name) from error
        options_given = body.stream_options
        with_usage = bool(options_given and options_given.include_usage)
        events = self._events(frame, first, pieces, with_usage, began)
        return EventStream(events, pieces.cancel, headers)

    async def _events(
        self, frame: Completion, piece: str | Answer, pieces: Pieces, with_usage: bool, began: float
    ) -> AsyncIterator[bytes]:
        start = {"role": "assistant", "content": ""}
        yield event(frame.chunk(start, with_usage=with_usage))
        try:
            while isinstance(piece, str):
                yield event(frame.chunk({"content": piece}, with_usage=with_usage))
                piece = await pieces.next()
        except Exception as error:
            # the status is sent: the reason goes into the stream, and no [DONE] follows
            yield event(as_api_error(error, frame.model).to_dict())
            return
        self._metrics.answered(frame.model, piece, time.perf_counter() - began)
        context = context_of(piece)
        delta = {} if context is None else {"context": context}
        yield event(frame.chunk(delta, finish_reason=piece.finish_reason, with_usage=with_usage))
        if with_usage:
            yield event(frame.usage_chunk(piece))
        yield DONE

    async def _load(self, name: str, request: Request) -> Batcher:
        try:
            # shielded by its thread: a client that leaves does not undo the load for the next one
            return await while_connected(request.receive, asyncio.to_thread(self._pool.load, name))
        except ClosedError as error:
            raise as_api_error(error, name) from error
        except LuthierError as error:
            raise ApiError(
                500, f"The model {name!r} could not be loaded: {error}", code="model_not_loaded"
            ) from error
