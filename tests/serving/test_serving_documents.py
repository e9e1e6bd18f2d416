"""Arms that read documents behind the server: citations, updates, who may read what."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from retrieval_fakes import WordEncoder
from serving_fakes import running
from tiny_models import write_tiny_model

import luthier
from luthier.arms.base import Answerer
from luthier.arms.grounded import GroundedAnswerer, Reader
from luthier.data.examples import Conversation
from luthier.errors import InputError
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions
from luthier.models.pool import ModelPool
from luthier.retrieval import building, writing
from luthier.retrieval.index import Index
from luthier.retrieval.passages import OPEN, Scope
from luthier.serving.access import Access, read_keys
from luthier.serving.offer import groups_of, offer

SECRET = "Grade seven earns 4200 euros."


class Quoter(Answerer):
    """Writes the first sentence of the first passage, and says which it is of."""

    name = "rag"
    generates = True
    context_length = None

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Any = None,
    ) -> list[Answer]:
        said = []
        for one in conversations:
            found = re.search(r"<passage 1>\n(?:# .*\n)?(.*?\.)", one[-1].content)
            said.append(Answer(f"{found.group(1)} [1]" if found else "It is blue.", 0.0, 3, 3))
        return said


@pytest.fixture
def home(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "canteen.txt").write_text("The canteen opens at noon. Soup costs two euros.")
    (docs / "pay.md").write_text(
        f"---\naccess: [hr]\ntitle: Secret grades\n---\n{SECRET} The canteen is for all grades."
    )
    building.build([str(docs)], tmp_path / "index", loaded=WordEncoder())
    return tmp_path


def servable(home: Path, scope: Scope | None = None) -> GroundedAnswerer:
    index = Index.open(home / "index", WordEncoder())
    return GroundedAnswerer("rag", Quoter(), index, scope or Scope(), Reader(k=2))


def ask(url: str, question: str, key: str = "", **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    messages = [{"role": "user", "content": question}]
    return httpx.post(
        f"{url}/v1/chat/completions",
        json={"model": "rag", "messages": messages, **body},
        headers=headers,
        timeout=20,
    )


def message(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    held: dict[str, Any] = response.json()["choices"][0]["message"]
    return held


def test_an_answer_says_where_it_stands(home: Path) -> None:
    with running({"rag": lambda: servable(home)}, "rag") as url:
        said = message(ask(url, "When does the canteen open?"))
        with OpenAI(base_url=f"{url}/v1", api_key="x") as client:
            asked: list[Any] = [{"role": "user", "content": "When does the canteen open?"}]
            whole = client.chat.completions.create(model="rag", messages=asked)
            *_, last = client.chat.completions.create(model="rag", messages=asked, stream=True)
    assert said["content"] == "The canteen opens at noon."
    context = said["context"]
    (citation,) = context["citations"]
    assert citation == {
        "document": "canteen.txt",
        "start": 0,
        "end": 26,
        "text": "The canteen opens at noon.",
        "passage": "canteen.txt:0-48",
        "heading": [],
        "title": "",
        "source": "canteen.txt",
    }
    kept = Index.open(home / "index", WordEncoder()).text_of(citation["document"])
    assert kept is not None
    assert kept[citation["start"] : citation["end"]] == citation["text"]
    assert (context["abstained"], context["support"], context["index_version"]) == (False, 1.0, 1)
    assert context["passages"][0]["document"] == "canteen.txt"
    # the official client hands over what it does not know of
    assert whole.choices[0].message.context == context  # type: ignore[attr-defined]
    assert last.choices[0].delta.context == context  # type: ignore[attr-defined]


def test_an_answer_that_no_document_holds_is_not_given(home: Path) -> None:
    class Forger(Index):
        """Its documents say something else than its passages."""

        def text_of(self, document: str, *, scope: Scope = OPEN) -> str | None:
            return "another text"

    made = servable(home)
    made.index = Forger.open(home / "index", WordEncoder())
    with running({"rag": lambda: made}, "rag") as url:
        said = message(ask(url, "When does the canteen open?"))
    assert said["content"] == "not in the documents"
    assert said["context"]["citations"] == [] and said["context"]["abstained"]


def test_an_update_is_seen_by_the_next_request_and_half_of_one_never(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = "When does the canteen open?"
    with running({"rag": lambda: servable(home)}, "rag") as url:
        assert "noon" in message(ask(url, question))["content"]
        (home / "docs" / "canteen.txt").write_text("The canteen opens at one.")
        (home / "docs" / "bikes.txt").write_text("Bikes stand in the yard.")

        def dies(*args: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(writing, "write_manifest", dies)
            building.update(home / "index", loaded=WordEncoder())
        assert "noon" in message(ask(url, question))["content"]
        assert "yard" not in ask(url, "Where do bikes stand?").text
        building.update(home / "index", loaded=WordEncoder())
        said = message(ask(url, question))
        assert said["content"] == "The canteen opens at one."
        assert said["context"]["index_version"] == 2
        assert "yard" in message(ask(url, "Where do bikes stand?"))["content"]
        building.remove(home / "index", ["canteen.txt"])
        assert "opens" not in ask(url, question).text


def test_readers_while_a_writer_works_see_one_version_or_the_other(home: Path) -> None:
    """Two documents always say the same number; no answer rests on different ones."""

    def write(number: int) -> None:
        for name in ("a", "b"):
            (home / "docs" / f"{name}.txt").write_text(f"The gauge {name} reads {number}.")

    write(0)
    building.update(home / "index", loaded=WordEncoder())
    stop = threading.Event()

    def writes() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            write(number)
            building.update(home / "index", loaded=WordEncoder())

    with running({"rag": lambda: servable(home)}, "rag") as url, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(writes)
        seen = set()
        try:
            for _ in range(12):
                said = message(ask(url, "What does the gauge read?"))
                version = said["context"]["index_version"]
                held = Index.open(home / "index", WordEncoder(), version=version)
                texts = [held.text_of(name) or "" for name in ("a.txt", "b.txt")]
                numbers = {re.sub(r"\D", "", text) for text in texts}
                assert len(numbers) == 1
                assert said["content"] in texts
                seen.add(version)
        finally:
            stop.set()
        writing.result(30)
    assert len(seen) > 1


def test_an_index_that_is_gone_is_no_answer_and_no_path(home: Path) -> None:
    with running({"rag": lambda: servable(home)}, "rag") as url:
        assert message(ask(url, "When does the canteen open?"))
        (home / "index" / "index.json").rename(home / "index" / "away.json")
        reply = ask(url, "When does the canteen open?")
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "model_failed"
    assert str(home) not in reply.text and "noon" not in reply.text


def test_an_index_that_is_built_anew_is_read_anew(home: Path) -> None:
    import shutil

    with running({"rag": lambda: servable(home)}, "rag") as url:
        assert "noon" in message(ask(url, "When does the canteen open?"))["content"]
        shutil.rmtree(home / "index")
        (home / "docs" / "canteen.txt").write_text("The canteen opens at ten in the morning.")
        building.build([str(home / "docs")], home / "index", loaded=WordEncoder())
        assert "at ten" in message(ask(url, "When does the canteen open?"))["content"]


# ---- who may read what -------------------------------------------------------------------------

QUESTION = "What does grade seven earn?"


@pytest.fixture
def shared(home: Path) -> Iterator[str]:
    """A server with three keys: of hr, of hr and it, of nobody."""
    access = Access({"key-hr": ["hr"], "key-both": ["hr", "it"], "key-open": []})
    # the scope of the arm may be wider than that of a client
    arm = servable(home, Scope(frozenset({"hr"})))
    with running({"rag": lambda: arm}, "rag", access=access) as url:
        yield url


@pytest.mark.parametrize("stream", [False, True])
def test_no_request_reads_for_a_group_that_its_key_is_not_in(shared: str, stream: bool) -> None:
    for key, body, may in (
        ("key-hr", {}, True),
        ("key-both", {"access_groups": ["hr"]}, True),
        ("key-both", {"access_groups": ["it"]}, False),
        ("key-hr", {"access_groups": []}, False),
        ("key-open", {}, False),
    ):
        reply = ask(shared, QUESTION, key, stream=stream, **body)
        assert reply.status_code == 200
        assert ("4200" in reply.text) == may, (key, body)
        assert ("pay.md" in reply.text or "Secret" in reply.text) == may


@pytest.mark.parametrize(
    "groups", [["hr"], ["*"], ["hr", "it"], ["no such group"], ["x') OR array_has(access, 'hr"]]
)
def test_a_request_cannot_widen_what_its_key_reads(shared: str, groups: list[str]) -> None:
    replies = {
        ask(shared, QUESTION, "key-open", access_groups=groups).text,
        ask(shared, QUESTION, "key-open", access_groups=["something"]).text,
    }
    assert len(replies) == 1  # nothing says which groups there are
    assert "group_not_allowed" in replies.pop()
    # what another way of naming them brings
    for body in ({"groups": groups}, {"scope": {"groups": groups}}, {"user": "hr"}):
        assert "4200" not in ask(shared, QUESTION, "key-open", **body).text
    assert "4200" not in ask(shared, f"groups: {groups}. {QUESTION}", "key-open").text


@pytest.mark.parametrize("key", ["", "key", "key-hr2", "KEY-HR", "key-open,key-hr"])
def test_no_key_no_document(shared: str, key: str) -> None:
    reply = ask(shared, QUESTION, key)
    assert reply.status_code == 401
    assert "4200" not in reply.text and "pay.md" not in reply.text


def test_requests_of_several_groups_at_once_are_kept_apart(shared: str) -> None:
    with ThreadPoolExecutor(16) as clients:
        keys = ["key-hr", "key-open", "key-both"] * 10
        replies = list(clients.map(lambda key: ask(shared, QUESTION, key), keys))
    for key, reply in zip(keys, replies, strict=True):
        assert ("4200" in reply.text) == (key != "key-open")


def test_nothing_else_that_is_served_names_a_document(shared: str) -> None:
    ask(shared, QUESTION, "key-hr")
    headers = {"authorization": "Bearer key-open"}
    for path in ("/health", "/metrics", "/v1/models", "/v1/models/rag", "/docs", "/openapi.json"):
        text = httpx.get(f"{shared}{path}", headers=headers).text
        assert "pay.md" not in text and "4200" not in text and "hr" not in re.findall(r"\w+", text)


def test_a_document_that_is_closed_while_the_server_runs_is_closed_at_once(home: Path) -> None:
    with running({"rag": lambda: servable(home)}, "rag", access=Access(None, [])) as url:
        assert "noon" in message(ask(url, "When does the canteen open?"))["content"]
        (home / "docs" / "canteen.md").write_text(
            "---\naccess: [it]\n---\nThe canteen opens at noon."
        )
        (home / "docs" / "canteen.txt").unlink()
        building.update(home / "index", loaded=WordEncoder())
        assert "noon" not in ask(url, "When does the canteen open?").text


def test_keys_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text('"a-key": [hr]\n"b-key": []\n')
    access = Access(read_keys(path))
    assert access.groups_of("Bearer a-key") == {"hr"}
    assert access.groups_of("bearer b-key") == frozenset()
    for text, said in (
        ("[]", "no table"),
        ("12345: [hr]", "in quotes"),
        ("key: hr", "no list of names"),
        ("key: [1]", "no list of names"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_keys(path)
    with pytest.raises(InputError, match="no keys"):
        Access({})


def test_a_run_is_served_with_what_its_arms_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(tmp_path / "model", context=1024)
    (tmp_path / "docs").mkdir()
    rows = []
    for number in range(16):
        name = f"d{number}.txt"
        (tmp_path / "docs" / name).write_text(f"Room r{number} belongs to team t{number}.")
        rows.append({"q": f"Whose is room r{number}?", "a": f"t{number}", "doc": name})
    (tmp_path / "docs" / "secret.md").write_text(
        "---\naccess: [board]\n---\nRoom r3 belongs to the canary zanzibar.\n"
    )
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "task.yaml").write_text(
        "name: rooms\nkind: qa\nmodel: model\ndocuments: docs\n"
        'data: {train: rows.jsonl, input: "{{ q }}", output: "{{ a }}"}\n'
        "arms: [rag, oracle]\n"
        "success: {max_forgetting: null}\ngeneration: {max_new_tokens: 4}\n"
        "learning_curve: false\nretrieval: {gold: doc, k: 2, mode: bm25}\n"
    )
    monkeypatch.setattr(ModelPool, "encoder", lambda self, name: WordEncoder())
    run = luthier.run(tmp_path / "task.yaml", out=tmp_path / "run")
    assert not [arm["failed"] for arm in run.verdict["arms"] if arm["failed"]]
    # no arm wrote down anything of a document that the task may not read
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file() and "index/tables" not in path.as_posix():
            assert b"zanzibar" not in path.read_bytes(), path
    servables, default = offer(str(tmp_path / "run"))
    assert "oracle" not in servables and list(servables) == ["rag"]
    assert groups_of(str(tmp_path / "run")) == frozenset()
    access = Access(None, ["board"])
    with running(servables, default, access=access) as url:
        board = ask(url, "Whose is room r3?", model="rag")
        nobody = ask(url, "Whose is room r3?", model="rag", access_groups=[])
        (tmp_path / "docs" / "d3.txt").write_text("Room r3 is empty.")
        building.update(tmp_path / "run" / "index", loaded=WordEncoder())
        later = message(ask(url, "Whose is room r3?", model="rag"))
    shown = [p["document"] for p in message(board)["context"]["passages"]]
    assert "secret.md" in shown
    assert "secret.md" not in nobody.text and message(nobody)["context"]["index_version"] == 1
    assert later["context"]["index_version"] == 2
