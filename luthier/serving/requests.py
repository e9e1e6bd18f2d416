"""What a client may ask: the request body of POST /v1/chat/completions, checked.

A parameter is honoured, or is known to change nothing about the text of an answer, or is refused by
name. None is dropped in silence.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from luthier.data.examples import Conversation, Message, Role
from luthier.errors import did_you_mean
from luthier.generation.options import AnswerOptions
from luthier.serving.api_errors import ApiError

#: Parameters that say something about the request, not about the answer.
HARMLESS = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)

#: Parameters of the OpenAI API that are not supported, with the values that ask for nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "moderation": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}


class StreamOptions(BaseModel):
    """`stream_options`: whether the last chunk tells the token counts."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool | None = False
    include_obfuscation: bool | None = False


class ChatMessage(BaseModel):
    """One message. `content` is text, or a list of parts {"type": "text", "text": ...}."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: str
    content: Any = None
    name: str | None = None


class ChatRequest(BaseModel):
    """The body of a chat completion request; other keys are looked at by `refuse_unsupported`."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    model: str
    messages: list[ChatMessage]
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: Any = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    #: not of the OpenAI API: fewer groups than the client has (`luthier.serving.access`)
    access_groups: list[str] | None = Field(default=None, max_length=100)


def refuse_unsupported(request: ChatRequest) -> None:
    """Refuse what would be ignored.

    Raises:
        ApiError: 400 with the parameter's name.
    """
    for name, value in (request.model_extra or {}).items():
        if value is None or name in HARMLESS:
            continue
        if name not in UNSUPPORTED:
            known = {*ChatRequest.model_fields, *HARMLESS, *UNSUPPORTED}
            near = did_you_mean(name, known)
            suggestion = f" {near}" if near.startswith("Did") else ""
            raise ApiError(
                400,
                f"Unrecognized request argument supplied: {_shown(name)}.{suggestion}",
                code="unknown_parameter",
                param=_shown(name),
            )
        if value not in UNSUPPORTED[name]:
            raise _unsupported(name, "one answer is given to a request" if name == "n" else "")
    if request.stream_options is not None and not request.stream:
        raise ApiError(
            400, "`stream_options` is only allowed when `stream` is true.", param="stream_options"
        )


def conversation_of(request: ChatRequest) -> Conversation:
    """The conversation, the leading system (or developer) message included.

    Raises:
        ApiError: 400: no messages, a role that has no place here, content other than text, or a
            conversation that does not end with the user's turn.
    """
    if not request.messages:
        raise ApiError(400, "`messages` is empty: send at least one.", param="messages")
    turns: list[Message] = []
    for at, message in enumerate(request.messages):
        where = f"messages[{at}]"
        role = _role_of(message, where, first=at == 0)
        for name, value in (message.model_extra or {}).items():
            if value not in (None, [], ""):
                raise _unsupported(f"{where}.{_shown(name)}")
        turns.append(Message(role, _text_of(message.content, f"{where}.content")))
    if turns[-1].role != "user":
        raise ApiError(
            400,
            f"The last message must be the user's, not the {turns[-1].role}'s.",
            code="invalid_value",
            param=f"messages[{len(turns) - 1}].role",
        )
    return tuple(turns)


def options_of(request: ChatRequest) -> AnswerOptions:
    """What was asked about sampling and length.

    Raises:
        ApiError: 400: `stop` is no string or list of up to four, or two limits contradict.
    """
    limits = {request.max_tokens, request.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise ApiError(
            400,
            "`max_tokens` and `max_completion_tokens` mean the same and differ: send one.",
            param="max_tokens",
        )
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    valid = isinstance(stop, list) and len(stop) <= 4
    if not (valid and all(isinstance(text, str) and text for text in stop)):
        raise ApiError(
            400, "`stop` must be a string or a list of up to 4 strings, none empty.", param="stop"
        )
    return AnswerOptions(
        max_new_tokens=limits.pop() if limits else None,
        temperature=request.temperature,
        top_p=request.top_p,
        stop=tuple(_unicode(text, "stop") for text in stop),
        seed=request.seed,
    )


def without_sampling(options: AnswerOptions) -> tuple[AnswerOptions, str | None]:
    """The options for an answerer that does not generate, and a note on what had no effect.

    Raises:
        ApiError: 400: `stop`, which would have to change an answer that is chosen whole.
    """
    if options.stop:
        raise _unsupported("stop", "this model chooses whole answers")
    ignored = []
    if options.max_new_tokens is not None:
        ignored.append("max_tokens")
    if options.temperature not in (None, 0):
        ignored.append("temperature")
    if options.top_p not in (None, 1):
        ignored.append("top_p")
    if options.seed is not None:
        ignored.append("seed")
    note = f"This model chooses whole answers; no effect: {', '.join(ignored)}."
    return AnswerOptions(), note if ignored else None


def refuse_longer(options: AnswerOptions, context_length: int | None) -> None:
    """Refuse a limit that no answer could reach.

    Raises:
        ApiError: 400: more new tokens than the context holds.
    """
    wanted = options.max_new_tokens
    if wanted is not None and context_length is not None and wanted > context_length:
        raise ApiError(
            400,
            f"`max_tokens` is {wanted}, and this model's maximum context length is "
            f"{context_length} tokens, the messages included.",
            code="context_length_exceeded",
            param="max_tokens",
        )


def _role_of(message: ChatMessage, where: str, *, first: bool) -> Role:
    match message.role:
        case "user":
            return "user"
        case "assistant":
            return "assistant"
        case "system" | "developer" if first:  # "developer" is a newer name of the same thing
            return "system"
        case "system" | "developer":
            wrong = f"is {message.role!r}, which only the first message may be"
        case _:
            wrong = f"is {_shown(message.role)!r}: expected system, user or assistant"
    raise ApiError(400, f"`{where}.role` {wrong}.", code="invalid_value", param=f"{where}.role")


def _text_of(content: Any, where: str) -> str:
    if isinstance(content, str):
        return _unicode(content, where)
    if not isinstance(content, list) or not content:
        raise ApiError(
            400,
            f"`{where}` must be a string or a list of text parts.",
            code="invalid_type",
            param=where,
        )
    texts = []
    for at, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            what = f"has type {_shown(kind)!r}" if isinstance(kind, str) else "has no type"
            raise ApiError(
                400,
                f"`{where}[{at}]` {what}: only text parts can be read.",
                code="unsupported_content",
                param=f"{where}[{at}]",
            )
        if not isinstance(part.get("text"), str):
            raise ApiError(
                400,
                f"`{where}[{at}].text` must be a string.",
                code="invalid_type",
                param=f"{where}[{at}].text",
            )
        texts.append(_unicode(part["text"], f"{where}[{at}].text"))
    return "\n".join(texts)


def _unicode(text: str, where: str) -> str:
    """The text itself; JSON can spell half of a surrogate pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApiError(
            400,
            f"`{where}` holds half of a surrogate pair at character {error.start}.",
            code="invalid_unicode",
            param=where,
        ) from None
    return text


def _unsupported(name: str, why: str = "") -> ApiError:
    message = f"`{name}` is not supported here{f': {why}' if why else ''}."
    return ApiError(400, message, code="unsupported_parameter", param=name)


def _shown(text: str) -> str:
    """A client's word, short enough and encodable, to be quoted back."""
    return text[:100].encode(errors="replace").decode()
