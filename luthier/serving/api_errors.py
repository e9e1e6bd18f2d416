"""Errors as the OpenAI API writes them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
from typing import Any

from luthier.errors import InputError, LuthierError
from luthier.generation.options import PromptTooLongError
from luthier.serving.batcher import BusyError, ClosedError

_log = logging.getLogger("luthier.serving")


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: the HTTP status, 400 to 599.
        message: what is wrong, for people.
        code: for programs; None where the API has none.
        param: the request's key that is to blame.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param

    def to_dict(self) -> dict[str, Any]:
        """The body of the response."""
        if self.status == 429:
            kind = "rate_limit_error"
        else:
            kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the status."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        if self.status == 500:  # it would fail again, after as long a time
            return {"x-should-retry": "false"}
        return {"retry-after": "1"} if self.status in (429, 503) else {}


def as_api_error(error: Exception, model: str) -> ApiError:
    """What a client is told when answering with `model` ended in `error`.

    What people caused is told as it is; what is a fault of the program is logged with its
    traceback here and kept from the client, who could do nothing with it.
    """
    match error:
        case ApiError():
            return error
        case PromptTooLongError():
            return ApiError(400, str(error), code="context_length_exceeded", param="messages")
        case BusyError():
            return ApiError(429, str(error), code="server_busy")
        case ClosedError():
            return ApiError(503, str(error), code="shutting_down")
        case InputError():
            return ApiError(400, str(error), code="not_answerable", param="messages")
        case LuthierError():
            _log.error("%s: %s", model, error)
            return ApiError(500, str(error), code="model_failed")
    _log.error("%s failed", model, exc_info=error)
    return ApiError(500, f"{model} failed; the server's log says why.", code="model_failed")
