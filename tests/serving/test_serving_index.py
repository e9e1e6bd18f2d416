"""An index behind the server without a run: citations, live updates, what its groups may read."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from openai import OpenAI
from retrieval_fakes import WordEncoder
from serving_fakes import running
from tiny_models import write_tiny_model

from luthier.cli import main
from luthier.errors import InputError
from luthier.generation.answers import Answer
from luthier.generation.options import Sampling, Stopping
from luthier.models.encoder import Encoder
from luthier.retrieval import asking, building
from luthier.retrieval.index import Index
from luthier.serving.access import Access
from luthier.serving.documents import IndexAnswerer
from luthier.serving.offer import groups_of, offer

SECRET = "Grade seven earns 4200 euros."


class Reader:
    """A generator that writes what it is told; remembers how it was asked."""

    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=2048))
    tokenizer = None

    def __init__(self, says: str = "The canteen opens at noon.") -> None:
        self.says = says
        self.asked: list[tuple[Stopping, Sampling]] = []

    def generate(
        self, prompts: Sequence[Sequence[int]], stopping: Stopping, sampling: Sampling
    ) -> list[Answer]:
        self.asked.append((stopping, sampling))
        return [Answer(self.says, 0.0, 40, 6, "length")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "canteen.txt").write_text("The canteen opens at noon. Soup costs two euros.")
    (docs / "pay.md").write_text(f"---\naccess: [hr]\ntitle: Secret grades\n---\n{SECRET}")
    monkeypatch.setattr(Encoder, "load", lambda name, **rest: WordEncoder())
    building.build([str(docs)], tmp_path / "handbook", loaded=WordEncoder())
    return tmp_path


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """What reads; prompts are not rendered."""
    made = Reader()

    def written(generator: Any, *rest: Any) -> str:
        return str(generator.generate([[1]], Stopping(frozenset(), ("\n",), 48))[0].text)

    monkeypatch.setattr(asking, "written", written)
    return made


def servable(home: Path, reader: Any) -> IndexAnswerer:
    return IndexAnswerer("handbook", Index.open(home / "handbook", WordEncoder()), reader)


def ask(url: str, question: str, key: str = "", **body: Any) -> httpx.Response:
    messages = [{"role": "user", "content": question}]
    return httpx.post(
        f"{url}/v1/chat/completions",
        json={"model": "handbook", "messages": messages, **body},
        headers={"authorization": f"Bearer {key}"} if key else {},
        timeout=20,
    )


def message(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    held: dict[str, Any] = response.json()["choices"][0]["message"]
    return held


def test_an_answer_with_its_citation(home: Path, reader: Reader) -> None:
    with running({"handbook": lambda: servable(home, reader)}, "handbook") as url:
        reply = ask(url, "When does the canteen open?")
        said = message(reply)
        reader.says = "Something else that no document says."
        quoted = message(ask(url, "When does the canteen open?"))
        far = message(ask(url, "Who painted zebras purple yesterday?"))
        with OpenAI(base_url=f"{url}/v1", api_key="x") as client:
            asked: list[Any] = [{"role": "user", "content": "When does the canteen open?"}]
            *_, last = client.chat.completions.create(model="handbook", messages=asked, stream=True)
    assert said["content"] == "The canteen opens at noon."
    (citation,) = said["context"]["citations"]
    assert citation["passage"] == "canteen.txt:0-48" and citation["text"] == said["content"]
    text = Index.open(home / "handbook", WordEncoder()).text_of("canteen.txt") or ""
    assert text[citation["start"] : citation["end"]] == citation["text"]
    context = said["context"]
    assert (context["abstained"], context["quoted"], context["index_version"]) == (False, False, 1)
    assert context["passages"][0]["document"] == "canteen.txt"
    assert reply.json()["usage"]["total_tokens"] == 46
    assert quoted["content"] == "The canteen opens at noon." and quoted["context"]["quoted"]
    assert far["content"] == "not in the documents" and far["context"]["abstained"]
    assert last.choices[0].delta.context["quoted"]  # type: ignore[attr-defined]


def test_what_a_request_wishes_reaches_the_model(home: Path, reader: Reader) -> None:
    with running({"handbook": lambda: servable(home, reader)}, "handbook") as url:
        wish = {"max_tokens": 5, "temperature": 0.5, "seed": 7, "stop": ["!"]}
        message(ask(url, "When does the canteen open?", **wish))
        message(ask(url, "When does the canteen open?"))
    stopping, sampling = reader.asked[0]
    assert (stopping.max_new_tokens, stopping.strings) == (5, ("\n", "!"))
    assert (sampling.temperature, sampling.seed) == (0.5, 7)
    assert reader.asked[1][0].max_new_tokens == 48 and reader.asked[1][1].temperature == 0


def test_updates_are_seen_and_a_lost_index_is_no_answer(home: Path, reader: Reader) -> None:
    reader.says = "nothing of it"
    with running({"handbook": lambda: servable(home, reader)}, "handbook") as url:
        assert "noon" in message(ask(url, "When does the canteen open?"))["content"]
        (home / "docs" / "canteen.txt").write_text("The canteen opens at one.")
        building.update(home / "handbook", loaded=WordEncoder())
        said = message(ask(url, "When does the canteen open?"))
        assert said["content"] == "The canteen opens at one."
        assert said["context"]["index_version"] == 2
        building.remove(home / "handbook", ["canteen.txt"])
        assert message(ask(url, "When does the canteen open?"))["context"]["abstained"]
        (home / "handbook" / "index.json").unlink()
        lost = ask(url, "When does the canteen open?")
    assert lost.status_code == 500 and str(home) not in lost.text


def test_a_client_reads_what_its_groups_may(home: Path, reader: Reader) -> None:
    reader.says = SECRET
    access = Access({"key-hr": ["hr"], "key-open": []})
    question = "What does grade seven earn?"
    with running({"h": lambda: servable(home, reader)}, "h", access=access) as url:
        for key, body, may in (
            ("key-hr", {}, True),
            ("key-hr", {"access_groups": []}, False),
            ("key-open", {}, False),
        ):
            reply = ask(url, question, key, model="h", **body)
            assert reply.status_code == 200
            assert (SECRET in reply.text) == may and ("pay.md" in reply.text) == may
        assert ask(url, question, "key-open", model="h", access_groups=["hr"]).status_code == 403
        assert ask(url, question, "", model="h").status_code == 401


def test_what_is_offered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_tiny_model(home / "model", context=1024)
    monkeypatch.chdir(home / "handbook")
    for name in (str(home / "handbook"), ".", f"{home}/handbook/"):
        servables, default = offer(name, str(model))
        assert default == "handbook" and list(servables) == ["handbook"]
        assert groups_of(name) == frozenset()
    with running(servables, default) as url:
        said = message(ask(url, "When does the canteen open?"))
        long = ask(url, "When does the canteen open? " * 400)
    assert said["content"] == "The canteen opens at noon." and said["context"]["quoted"]
    servables, default = offer(name, str(model), quote=False)
    with running(servables, default) as url:
        plain = message(ask(url, "When does the canteen open?"))
    assert plain["content"] == "not in the documents" and not plain["context"]["quoted"]
    assert long.status_code == 400 and long.json()["error"]["code"] == "context_length_exceeded"
    with pytest.raises(InputError, match="--model, --quarantine and --no-quote are for an index"):
        offer(str(model), "other")


def test_what_the_verb_refuses(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, said in (
        ((home / "handbook", "--model", "smollm3-nonsense"), "smollm3-nonsense"),
        ((home / "docs",), "docs"),
        (("ftp://host/x",), "no index can lie at ftp://"),
    ):
        monkeypatch.setattr(sys, "argv", ["luthier", "serve", *map(str, words), "--port", "0"])
        with pytest.raises(SystemExit) as ended:
            main()
        err = capsys.readouterr().err
        assert ended.value.code == 2 and said in err and not re.search("Traceback", err)
