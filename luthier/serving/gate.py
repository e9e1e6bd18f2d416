"""What every request passes before a route sees it: the key, the kind and size of the body."""

from __future__ import annotations

import asyncio
import logging
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.serving.access import Access
from luthier.serving.api_errors import ApiError
from luthier.serving.metrics import Metrics
from luthier.serving.replies import Json
from luthier.serving.streaming import ClientGoneError

_log = logging.getLogger("luthier.serving")

#: Routes that need no key: a load balancer has none.
OPEN = frozenset({"/health"})
#: Where the groups of the client stand in the scope of a request.
GROUPS = "luthier.groups"


class Gate:
    """ASGI middleware. Also gives each response an id and counts it.

    Args:
        app: what comes behind the gate.
        access: who is let in, by `Authorization: Bearer KEY`, and for which groups.
        max_body_bytes: the longest body of a request.
        metrics: where responses are counted.
    """

    def __init__(
        self, app: ASGIApp, *, access: Access, max_body_bytes: int, metrics: Metrics
    ) -> None:
        self._app = app
        self._access = access
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._metrics.responded(message["status"])
                MutableHeaders(scope=message)["x-request-id"] = f"req_{uuid.uuid4().hex}"
            await send(message)

        try:
            try:
                if scope["path"] not in OPEN:
                    given = Headers(scope=scope).get("authorization", "")
                    scope[GROUPS] = self._access.groups_of(given)
                if scope["method"] == "POST":
                    body = await self._body(receive)
                    self._check_kind(scope)
                    receive = _replayed(body, receive)
            except ApiError as error:
                refusal = Json(error.to_dict(), error.status, error.headers)
                await refusal(scope, receive, watched)
                return
            await self._app(scope, receive, watched)
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            # uvicorn cancels what still runs when the grace of a shutdown is over
            if not started:
                late = ApiError(503, "The server is shutting down.", code="shutting_down")
                await Json(late.to_dict(), 503, late.headers)(scope, receive, watched)
        except Exception:
            # a fault of the server's own; the client is not shown a traceback
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            fault = ApiError(500, "The server failed; its log says why.", code="internal_error")
            await Json(fault.to_dict(), 500, fault.headers)(scope, receive, watched)

    def _check_kind(self, scope: Scope) -> None:
        # also keeps web pages out: a browser asks first before it sends JSON to another site
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(
                415,
                "The body must be JSON, sent with the header Content-Type: application/json.",
                code="unsupported_media_type",
            )

    async def _body(self, receive: Receive) -> bytes:
        """The whole body, never more than the limit in memory.

        A longer one is read on for a while and dropped: a client that is still sending when the
        connection closes would see a broken connection in place of the reason.
        """
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part = message.get("body", b"")
            size += len(part)
            if size <= self._max_body_bytes:
                parts.append(part)
            else:
                parts.clear()
            if not message.get("more_body", False) or size > 16 * self._max_body_bytes:
                break
        if size > self._max_body_bytes:
            raise ApiError(
                413,
                f"The request body is longer than {self._max_body_bytes} bytes.",
                code="request_too_large",
            )
        return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, then whatever comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
