"""The server as a process: ports, many clients, clients that leave, Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from serving_fakes import Shouter, running, until

from luthier.errors import InputError, ModelError, RunError
from luthier.serving.app import create_app
from luthier.serving.server import bind, serve


def ask(text: str) -> dict[str, Any]:
    return {"model": "luthier", "messages": [{"role": "user", "content": text}]}


def _waiting(url: str) -> int:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("luthier_waiting{"))


def test_many_clients_get_their_own_answers_in_batches() -> None:
    shouter = Shouter(gate=threading.Event())
    with (
        running({"shouter": lambda: shouter}, "shouter") as url,
        OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0, timeout=30) as client,
        ThreadPoolExecutor(32) as clients,
    ):

        def one(i: int) -> str | None:
            if i % 8 == 7:
                chunks = client.chat.completions.create(**ask(f"question {i}"), stream=True)
                return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            return client.chat.completions.create(**ask(f"question {i}")).choices[0].message.content

        answers = [clients.submit(one, i) for i in range(32)]
        assert shouter.entered.wait(10)

        assert until(lambda: _waiting(url) + len(shouter.calls[0]) == 32)
        assert shouter.gate is not None
        shouter.gate.set()
        assert [a.result(20) for a in answers] == [f"QUESTION {i}" for i in range(32)]
    sizes = [len(call) for call in shouter.calls]
    assert sum(sizes) == 32
    assert 1 < max(sizes) <= 16
    assert len(shouter.threads) == 1


def test_a_client_that_leaves_stops_the_stream() -> None:
    shouter = Shouter(word_seconds=0.01)
    with running({"shouter": lambda: shouter}, "shouter") as url:
        body = {**ask("w " * 2000), "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            next(response.iter_lines())
            assert not shouter.closed.is_set()
        assert shouter.closed.wait(5)
        assert shouter.written < 500
        reply = httpx.post(f"{url}/v1/chat/completions", json=ask("next")).json()
        assert reply["choices"][0]["message"]["content"] == "NEXT"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_waiting_is_forgotten(stream: bool) -> None:
    shouter = Shouter(gate=threading.Event())
    with running({"shouter": lambda: shouter}, "shouter") as url, ThreadPoolExecutor(2) as clients:
        path = f"{url}/v1/chat/completions"
        first = clients.submit(httpx.post, path, json=ask("first"), timeout=20)
        assert shouter.entered.wait(5)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(path, json={**ask("impatient"), "stream": stream}, timeout=0.2)
        assert until(lambda: _waiting(url) == 0)
        second = clients.submit(httpx.post, path, json=ask("second"), timeout=20)
        assert until(lambda: _waiting(url) == 1)
        assert shouter.gate is not None
        shouter.gate.set()
        assert first.result(10).status_code == second.result(10).status_code == 200
    assert shouter.calls == [["first"], ["second"]]


def test_models_load_when_asked_for_and_failures_are_told() -> None:
    loads: list[str] = []

    def load(name: str) -> Shouter:
        loads.append(name)
        if name == "broken":
            raise ModelError("model.safetensors is missing.", fix="Train it again.")
        return Shouter(name=name)

    names = ["main", "other", "broken"]
    with (
        running({name: lambda name=name: load(name) for name in names}, "main") as url,
        OpenAI(base_url=f"{url}/v1", api_key="x", timeout=20) as client,
    ):
        assert loads == []
        messages: list[Any] = [{"role": "user", "content": "hi"}]
        for _ in range(2):
            assert client.chat.completions.create(model="other", messages=messages).model == "other"
        assert loads == ["other"]
        assert client.models.retrieve("other").max_model_len == 64  # type: ignore[attr-defined]
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="broken", messages=messages)
        assert caught.value.code == "model_not_loaded"
        assert "model.safetensors is missing. Train it again." in str(caught.value)
        assert loads == ["other", "broken"]  # the client was told not to try again


def test_a_port_in_use_is_refused_before_a_model_is_loaded() -> None:
    def load() -> Shouter:
        raise AssertionError("loaded too early")

    with contextlib.closing(bind("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError) as caught:
            serve(create_app({"a": load}, "a"), port=port)
    assert caught.value.message == f"Port {port} is already in use."
    assert caught.value.fix == "Choose another with --port."


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [
        ("127.0.0.1", 70000, "Port 70000 does not exist"),
        ("127.0.0.1", -1, "Port -1 does not exist"),
        ("no.such.host.invalid", 8000, "no address to serve on"),
        ("192.0.2.1", 0, "cannot be served on"),
    ],
)
def test_addresses_that_cannot_be_taken(host: str, port: int, said: str) -> None:
    with pytest.raises(RunError, match=said):
        bind(host, port).close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])
def test_an_open_address_needs_a_key(host: str) -> None:
    with pytest.raises(RunError, match="without a key"):
        serve(create_app({"a": Shouter}, "a"), host=host, port=0)


def test_an_open_address_with_a_key_gets_as_far_as_loading() -> None:
    def load() -> Shouter:
        raise ModelError("not here.")

    with pytest.raises(ModelError, match="not here"):
        serve(create_app({"a": load}, "a", api_key="k"), host="0.0.0.0", port=0)


@pytest.mark.parametrize("key", ["", "  "])
def test_an_empty_key_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="key is empty"):
        create_app({"a": Shouter}, "a", api_key=key)


_PROGRAM = """
import sys
from serving_fakes import Shouter
from luthier.serving.app import create_app
from luthier.serving.server import serve
app = create_app({"a": lambda: Shouter(word_seconds=0.02)}, "a")
serve(app, port=0, ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_lets_a_running_stream_finish(number: signal.Signals) -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            url = process.stdout.readline().strip()
            assert url.endswith("/v1")
            body = {**ask("w " * 40), "stream": True}
            with httpx.stream("POST", f"{url}/chat/completions", json=body) as response:
                lines = response.iter_lines()
                next(lines)
                process.send_signal(number)
                data = [line for line in lines if line]
            assert data[-1] == "data: [DONE]"
            words = [
                json.loads(line[6:])["choices"][0]["delta"].get("content") for line in data[:-1]
            ]
            assert "".join(filter(None, words)) == " ".join(["W"] * 40)
            code = process.wait(10)
        finally:
            process.kill()
        if number == signal.SIGINT:
            assert (code, process.stdout.read()) == (0, "ended\n")
        else:
            assert code == -signal.SIGTERM
        assert "Traceback" not in process.stderr.read()


def test_what_runs_too_long_after_a_shutdown_is_told() -> None:
    shouter = Shouter(gate=threading.Event())
    assert shouter.gate is not None
    with ThreadPoolExecutor(1) as clients:
        with running({"a": lambda: shouter}, "a") as url:
            path = f"{url}/v1/chat/completions"
            answer = clients.submit(httpx.post, path, json=ask("x"), timeout=20)
            answer.add_done_callback(lambda _: shouter.gate.set())  # type: ignore[union-attr]
            assert shouter.entered.wait(5)
        assert answer.result(10).status_code == 503
        assert answer.result().json()["error"]["code"] == "shutting_down"


def test_a_port_is_free_again_when_its_server_has_ended() -> None:
    with running({"a": Shouter}, "a") as url:
        assert httpx.get(f"{url}/health").status_code == 200
        port = int(url.rsplit(":", 1)[1])
    with contextlib.closing(bind("127.0.0.1", port)) as again:
        assert again.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
