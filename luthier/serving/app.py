"""The routes of the OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException

from luthier.serving.access import Access
from luthier.serving.api_errors import ApiError
from luthier.serving.chat import Chat
from luthier.serving.gate import Gate
from luthier.serving.metrics import CONTENT_TYPE, Metrics
from luthier.serving.pool import ModelPool
from luthier.serving.replies import Json, model_object
from luthier.serving.requests import ChatRequest
from luthier.serving.servable import Servable

#: Longest request body, in bytes: more text than any model's context holds.
MAX_BODY_BYTES = 8 * 2**20

ROUTES = "POST /v1/chat/completions, GET /v1/models, GET /health, GET /metrics"


def create_app(
    servables: Mapping[str, Callable[[], Servable]],
    default: str,
    *,
    api_key: str | None = None,
    access: Access | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        servables: what loads each model, by model id. A model is loaded when it is first asked
            for; `serve` loads the default before it takes requests.
        default: the model id that clients also reach as "luthier".
        api_key: clients must send it as a bearer token; None lets everybody in.
        access: the same for several keys, with the groups whose documents each may read; in place
            of `api_key`. Without it, answers rest on what each run's task may read.
        max_body_bytes: longer request bodies are refused with 413.

    Raises:
        InputError: no models, an unknown default, or an empty key.
    """
    if access is None:
        access = Access(None if api_key is None else {api_key: None})
    pool, metrics = ModelPool(servables, default), Metrics()
    answering = Chat(pool, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(pool.close)

    app = FastAPI(title="Luthier", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.pool = pool
    app.state.has_key = access.has_key
    app.add_middleware(Gate, access=access, max_body_bytes=max_body_bytes, metrics=metrics)
    app.exception_handler(ApiError)(_refused)
    app.exception_handler(RequestValidationError)(_malformed)
    app.exception_handler(HTTPException)(_no_route)
    created = int(time.time())

    def entry(name: str, shown: str) -> dict[str, Any]:
        batcher = pool.loaded(name)
        return model_object(shown, created, batcher.servable.context_length if batcher else None)

    @app.get("/health")
    async def health() -> Response:
        """Whether the server answers, and which models are in memory."""
        models = [{"id": name, "loaded": pool.loaded(name) is not None} for name in pool.names]
        return Json({"status": "ok", "default": pool.default, "models": models})

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Counters in the Prometheus text format."""
        return PlainTextResponse(metrics.render(pool), media_type=CONTENT_TYPE)

    @app.get("/v1/models")
    async def models() -> Response:
        """The models there are, the default first."""
        return Json({"object": "list", "data": [entry(name, name) for name in pool.names]})

    @app.get("/v1/models/{model_id:path}")
    async def model(model_id: str) -> Response:
        """One model."""
        return Json(entry(pool.known(model_id), model_id))

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation, whole or as a stream of chunks."""
        return await answering.respond(body, request)

    return app


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return Json(error.to_dict(), error.status, error.headers)


async def _malformed(request: Request, error: Exception) -> Response:
    """A body that is no JSON, or not of the right shape: the first thing that is wrong with it."""
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    where = [part for part in problem["loc"] if part != "body"]
    if problem["type"] == "json_invalid":
        refusal = ApiError(
            400,
            f"The body is not valid JSON: {problem['ctx']['error']} at character {where[0]}.",
            code="invalid_json",
        )
    elif not where:
        refusal = ApiError(400, "The body must be a JSON object.", code="invalid_type")
    else:
        param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
        param = param.removeprefix(".")
        if problem["type"] == "missing":
            message, code = f"`{param}` is missing.", "missing_required_parameter"
        elif problem["type"] == "extra_forbidden":
            message, code = f"`{param}` is not known.", "unknown_parameter"
        else:
            message, code = f"`{param}`: {problem['msg']}.", "invalid_value"
        refusal = ApiError(400, message, code=code, param=param)
    return await _refused(request, refusal)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    asked = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        message, code = f"There is no {asked}; there are {ROUTES}.", "unknown_url"
    elif error.status_code == 405:
        message, code = f"{asked} is not allowed; there are {ROUTES}.", "method_not_allowed"
    else:
        message, code = f"{error.detail}.", "bad_request"
    return await _refused(request, ApiError(error.status_code, message, code=code))
