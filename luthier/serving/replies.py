"""The objects of the OpenAI API that the server sends, and how they are written to the wire."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import Response

from luthier.generation.answers import Answer


def to_json(value: Any) -> bytes:
    """Compact UTF-8 JSON. What is no character (half a surrogate pair) becomes "?"."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="replace")


class Json(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body's bytes."""
        return to_json(content)


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + to_json(value) + b"\n\n"


#: The event that ends a stream.
DONE = b"data: [DONE]\n\n"


def usage(answer: Answer) -> dict[str, int]:
    """Token counts of one answer."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def context_of(answer: Answer) -> dict[str, Any] | None:
    """What an answer from documents rests on; None where it rests on none.

    It stands beside "content" in the message, and in the last delta of a stream, as Azure OpenAI
    has it for answers over one's own data: "citations" (`luthier.arms.grounded.cited`; each was
    looked up in the index as it was when the answer was written), "abstained", "support" (the
    share of the answer's words that a passage holds), "passages" (that the model read),
    "index_version", and of an index without a run "quoted" (whether the answer is a sentence of a
    document, in place of the model's own words).
    """
    if "citations" not in answer.extra:
        return None
    names = ("citations", "abstained", "support", "quoted", "passages", "index_version")
    return {name: answer.extra[name] for name in names if name in answer.extra}


def model_object(name: str, created: int, context_length: int | None) -> dict[str, Any]:
    """An entry of /v1/models; `max_model_len` (as vLLM calls it) only when it is known."""
    entry: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "luthier",
    }
    return entry if context_length is None else {**entry, "max_model_len": context_length}


@dataclass(frozen=True)
class Completion:
    """The frame around one answer: the same id and time in every chunk of it."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer) -> dict[str, Any]:
        """A `chat.completion` object."""
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        context = context_of(answer)
        choice = {
            "index": 0,
            "message": message if context is None else {**message, "context": context},
            "logprobs": None,
            "finish_reason": answer.finish_reason,
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage(answer)}

    def chunk(
        self, delta: dict[str, Any], *, finish_reason: str | None = None, with_usage: bool
    ) -> dict[str, Any]:
        """A `chat.completion.chunk`; with `with_usage` it says that its usage comes later."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if with_usage else chunk

    def usage_chunk(self, answer: Answer) -> dict[str, Any]:
        """The last chunk when the client asked for token counts: no choices."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(answer)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
        }
