"""Every request that is refused says which part of it is to blame."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import OpenAI
from serving_fakes import Shouter, running

from luthier.serving.requests import HARMLESS, UNSUPPORTED, ChatRequest

ASK: list[Any] = [{"role": "user", "content": "hello"}]


def post(server: str, **body: Any) -> tuple[int, dict[str, Any]]:
    response = httpx.post(
        f"{server}/v1/chat/completions", json={"model": "shouter", "messages": ASK, **body}
    )
    reply = response.json()
    assert set(reply) == {"error"}, reply
    assert set(reply["error"]) == {"message", "type", "param", "code"}
    return response.status_code, reply["error"]


def user(content: Any) -> list[Any]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"messages": []}, "messages", "is empty"),
        ({"messages": None}, "messages", "list"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": [3]}, "messages[0]", ""),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "'tool'"),
        ({"messages": [*ASK, {"role": "system", "content": "x"}]}, "messages[1].role", "first"),
        ({"messages": [*ASK, {"role": "assistant", "content": "x"}]}, "messages[1].role", "last"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role", "last"),
        ({"messages": user(None)}, "messages[0].content", "string"),
        ({"messages": user([])}, "messages[0].content", "text parts"),
        ({"messages": user([{"type": "image_url"}])}, "messages[0].content[0]", "image_url"),
        ({"messages": user([{"type": "text", "text": 1}])}, "messages[0].content[0].text", ""),
        ({"messages": user(["x"])}, "messages[0].content[0]", "no type"),
        ({"messages": [{**ASK[0], "tool_calls": [1]}]}, "messages[0].tool_calls", "supported"),
        ({"model": None}, "model", "string"),
        ({"n": 2}, "n", "one answer"),
        ({"tools": [{"type": "function"}]}, "tools", "not supported"),
        ({"logprobs": True}, "logprobs", "not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "not supported"),
        ({"temprature": 1}, "temprature", "Did you mean 'temperature'?"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"temperature": "1"}, "temperature", "number"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 1.5}, "max_tokens", "integer"),
        ({"max_tokens": 65}, "max_tokens", "maximum context length is 64"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens", "differ"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "up to 4"),
        ({"stop": ""}, "stop", "none empty"),
        ({"stop": {"a": 1}}, "stop", "string"),
        ({"seed": 2**63}, "seed", "less than"),
        ({"stream": "yes"}, "stream", "boolean"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "`stream` is true"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "not known"),
        ({"model": "org/chooser", "stop": "x"}, "stop", "chooses whole answers"),
    ],
)
def test_refused(server: str, body: dict[str, Any], param: str, said: str) -> None:
    status, error = post(server, **body)
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert said in error["message"]


def test_an_unknown_model_names_those_there_are(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=ASK)
    assert caught.value.code == "model_not_found"
    assert "'gpt-4o' does not exist. Models: shouter, org/chooser." in str(caught.value)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/none")


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_answerer_refuses(client: OpenAI, stream: bool) -> None:
    def ask(text: str) -> Any:
        return client.chat.completions.create(model="shouter", messages=user(text), stream=stream)

    with pytest.raises(openai.BadRequestError) as overlong:
        ask("overlong")
    assert overlong.value.code == "context_length_exceeded"
    assert "maximum context length is 64 tokens" in str(overlong.value)
    with pytest.raises(openai.BadRequestError, match=r"cannot be answered\. Ask otherwise\."):
        ask("refuse")
    with pytest.raises(openai.InternalServerError) as crash:
        ask("crash")
    assert "secret" not in str(crash.value)
    assert ask("fine") is not None


def test_a_fault_in_mid_stream_reaches_the_client(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="shouter", messages=user("one break two"), stream=True
    )
    got = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in stream:
            got.append(chunk.choices[0].delta.content)
    assert got == ["", "ONE", " BREAK"]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", ""),
        (b"{", "not valid JSON"),
        (b"[]", "JSON object"),
        (b'"x"', "JSON object"),
        (b"\xff{}", ""),
        (b'{"model": "shouter", "messages": ' + b"[" * 9000 + b"]" * 9000 + b"}", ""),
        (b'{"model": "shouter", "temperature": NaN, "messages": []}', ""),
        (rb'{"model": "\ud800", "messages": []}', ""),
        (rb'{"model": "shouter", "messages": [{"role": "user", "content": "\ud800"}]}', "half"),
    ],
)
def test_bodies_that_are_no_request(server: str, raw: bytes, said: str) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{server}/v1/chat/completions", content=raw, headers=headers)
    assert response.status_code in (400, 404)
    assert said in response.json()["error"]["message"]


_text = st.text(st.characters(exclude_categories=[]), max_size=5)  # with halves of surrogate pairs
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_keys = st.sampled_from([*ChatRequest.model_fields, *UNSUPPORTED, *HARMLESS])
_part = st.fixed_dictionaries({}, optional={"type": st.just("text") | _json, "text": _json})
_message = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["system", "user", "assistant", "tool"]) | _json,
        "content": _text | st.lists(_part, max_size=2) | _json,
        "name": _json,
    },
)
_body = st.fixed_dictionaries(
    {}, optional={"messages": st.lists(_message, max_size=3), "stream": st.booleans()}
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(more=st.dictionaries(_keys | _text, _json, max_size=3), body=_body)
def test_no_body_is_a_fault_of_the_server(
    server: str, http: httpx.Client, more: dict[str, Any], body: dict[str, Any]
) -> None:
    whole = {"model": "shouter", "messages": ASK, **more, **body}
    response = http.post(
        f"{server}/v1/chat/completions",
        content=json.dumps(whole),
        headers={"content-type": "application/json"},
    )
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert response.json()["error"]["message"]


def test_the_body_must_say_that_it_is_json(server: str) -> None:
    response = httpx.post(f"{server}/v1/chat/completions", content=b"{}")
    assert response.status_code == 415
    assert "Content-Type: application/json" in response.json()["error"]["message"]


def test_a_body_too_long(server: str, client: OpenAI) -> None:
    # lengths around the limit, within what is read on, and far beyond it
    for length in (20_001, 100_000):
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="shouter", messages=user("x" * length))
        assert caught.value.status_code == 413
        assert caught.value.code == "request_too_large"
    client.chat.completions.create(model="shouter", messages=user("x" * 19_000))
    with pytest.raises((httpx.HTTPStatusError, httpx.TransportError)):
        httpx.post(
            f"{server}/v1/chat/completions", content=(b"x" * 9999 for _ in range(999))
        ).raise_for_status()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("POST", "/v1/completions", 404), ("DELETE", "/health", 405)],
)
def test_no_such_route(server: str, method: str, path: str, status: int) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.request(method, f"{server}{path}", headers=headers, content=b"{}")
    assert response.status_code == status
    assert "POST /v1/chat/completions" in response.json()["error"]["message"]


def test_the_key() -> None:
    with running({"shouter": Shouter}, "shouter", api_key="sésame") as url:
        right = {"authorization": "Bearer sésame".encode()}
        for headers in ({}, {"authorization": "Bearer no"}, {"authorization": "Basic x"}):
            for path in ("/v1/models", "/metrics", "/nothing"):
                response = httpx.get(f"{url}{path}", headers=headers)
                assert response.status_code == 401
                assert response.json()["error"]["code"] == "invalid_api_key"
                assert response.headers["www-authenticate"] == "Bearer"
        assert httpx.get(f"{url}/v1/models", headers=right).status_code == 200
        assert httpx.get(f"{url}/health").status_code == 200
        with (
            OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.chat.completions.create(model="shouter", messages=ASK)
