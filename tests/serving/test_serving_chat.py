"""What the official client sees: answers, streams and models."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import OpenAI

ASK: list[Any] = [{"role": "user", "content": "why is the sky blue"}]


def test_an_answer_has_the_shape_of_the_api(server: str) -> None:
    body = {"model": "shouter", "messages": ASK}
    response = httpx.post(f"{server}/v1/chat/completions", json=body)
    assert response.status_code == 200
    assert response.headers["x-request-id"].startswith("req_")
    reply = response.json()
    assert reply.pop("id").startswith("chatcmpl-")
    assert isinstance(reply.pop("created"), int)
    assert reply == {
        "object": "chat.completion",
        "model": "shouter",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "WHY IS THE SKY BLUE", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
    }


def test_the_client_reads_it(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="shouter", messages=ASK)
    assert reply.choices[0].message.content == "WHY IS THE SKY BLUE"
    assert reply.usage is not None
    assert reply.usage.total_tokens == 10


def test_the_default_model_is_called_luthier_too(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="luthier", messages=ASK)
    assert reply.model == "shouter"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_tokens": 2},
        {"max_completion_tokens": 3},
        {"stop": "SKY"},
        {"stop": ["BLUE", "THE"]},
        {"temperature": 0.7, "top_p": 0.9, "seed": 3},
    ],
)
def test_a_stream_says_the_same_as_a_whole_answer(client: OpenAI, options: dict[str, Any]) -> None:
    whole = client.chat.completions.create(model="shouter", messages=ASK, **options)
    chunks = list(
        client.chat.completions.create(
            model="shouter",
            messages=ASK,
            stream=True,
            stream_options={"include_usage": True},
            **options,
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    *pieces, last, counts = chunks[1:]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
    assert text == whole.choices[0].message.content
    assert all(chunk.choices[0].delta.content for chunk in pieces)
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-2])
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.choices[0].delta.content is None
    assert counts.choices == []
    assert counts.usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_length_and_stop_are_told_apart(client: OpenAI) -> None:
    cut = client.chat.completions.create(model="shouter", messages=ASK, max_tokens=2)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("WHY IS", "length")
    stopped = client.chat.completions.create(model="shouter", messages=ASK, stop=" THE")
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].message.content == "WHY IS"


def test_the_stream_on_the_wire(server: str) -> None:
    body = {"model": "shouter", "messages": ASK, "stream": True}
    response = httpx.post(f"{server}/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(each.removeprefix("data: ")) for each in events[:-2]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert not any("usage" in chunk for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "stop",
    }


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_leading_system_message_reaches_the_answerer(client: OpenAI, role: str) -> None:
    messages: list[Any] = [
        {"role": role, "content": "Be brief."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Hi.", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "bye", "name": "ann"},
    ]
    reply = client.chat.completions.create(model="shouter", messages=messages)
    assert reply.choices[0].message.content == "[Be brief.] BYE"


def test_text_parts_are_joined(client: OpenAI) -> None:
    parts: list[Any] = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages: list[Any] = [{"role": "user", "content": parts}]
    reply = client.chat.completions.create(model="shouter", messages=messages)
    assert reply.choices[0].message.content == "ONE TWO"


def test_parameters_that_ask_for_nothing_are_accepted(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="shouter",
        messages=ASK,
        user="ann",
        store=False,
        metadata={"a": "b"},
        n=1,
        logprobs=False,
        tools=[],
        frequency_penalty=0,
        response_format={"type": "text"},
        extra_body={"top_k": None},
    )
    assert reply.choices[0].message.content == "WHY IS THE SKY BLUE"


def test_text_that_is_not_ascii(client: OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "schön 🎻 \u2028 żółw"}]
    for stream in (False, True):
        reply = client.chat.completions.create(model="shouter", messages=messages, stream=stream)
        if stream:
            text = "".join(c.choices[0].delta.content or "" for c in reply)
        else:
            text = reply.choices[0].message.content
        assert text == "SCHÖN 🎻 ŻÓŁW"


def test_sampling_means_nothing_to_a_chooser_and_a_header_says_so(client: OpenAI) -> None:
    where: list[Any] = [{"role": "user", "content": "where is it"}]
    ask = client.chat.completions.with_raw_response.create
    plain = ask(model="org/chooser", messages=where, temperature=0)
    assert "x-luthier-note" not in plain.headers
    sampled = ask(model="org/chooser", messages=where, temperature=0.7, max_tokens=5, seed=1)
    note = sampled.headers["x-luthier-note"]
    assert note == "This model chooses whole answers; no effect: max_tokens, temperature, seed."
    assert sampled.parse().choices[0].message.content == "LOC"


def test_a_chosen_answer_streams_in_one_piece(client: OpenAI) -> None:
    stream = client.chat.completions.create(model="org/chooser", messages=ASK, stream=True)
    texts = [chunk.choices[0].delta.content for chunk in stream]
    assert texts == ["", "NUM", None]


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["shouter", "org/chooser"]
    assert client.models.retrieve("org/chooser").owned_by == "luthier"
    assert client.models.retrieve("luthier").id == "luthier"


def test_health_and_metrics(server: str, client: OpenAI) -> None:
    client.chat.completions.create(model="shouter", messages=ASK)
    health = httpx.get(f"{server}/health").json()
    assert (health["status"], health["default"]) == ("ok", "shouter")
    assert {"id": "shouter", "loaded": True} in health["models"]

    def read() -> dict[str, float]:
        lines = httpx.get(f"{server}/metrics").text.splitlines()
        return {k: float(v) for k, v in (x.rsplit(" ", 1) for x in lines if x[0] != "#")}

    before = read()
    client.chat.completions.create(model="shouter", messages=ASK)
    list(client.chat.completions.create(model="shouter", messages=ASK, stream=True))
    after = read()
    for name, by in (("answers", 2), ("prompt_tokens", 10), ("completion_tokens", 10)):
        key = f'luthier_{name}_total{{model="shouter"}}'
        assert after[key] - before[key] == by
    key = 'luthier_responses_total{status="200"}'
    assert after[key] - before[key] == 3  # two answers, and the first look at the metrics
