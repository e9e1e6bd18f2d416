"""An index in an object store: the same verbs, one writer at a time, old or new after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from object_store import environment, new_bucket, s3_server
from retrieval_fakes import WordEncoder
from tiny_models import write_tiny_model
from typed_verbs import Capture, luthier

from luthier.errors import InputError, LuthierError, RunError
from luthier.models.encoder import Encoder
from luthier.retrieval import building, lease
from luthier.retrieval.index import Index
from luthier.retrieval.manifest import read_manifest, writing
from luthier.retrieval.places import is_index, place_at


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    return new_bucket(endpoint, monkeypatch)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "canteen.txt").write_text("The canteen opens at noon. Soup costs two euros.")
    (folder / "pay.md").write_text("---\naccess: [hr]\n---\nGrade seven earns 4200 euros.")
    return folder


def test_every_verb(
    capsys: Capture, bucket: str, docs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Encoder, "load", lambda name, **rest: WordEncoder())
    monkeypatch.chdir(tmp_path)
    model = write_tiny_model(tmp_path / "model", context=1024)
    url = f"{bucket}/team/handbook"
    assert luthier(capsys, "index", "list", url)[0] == 2
    code, out, _ = luthier(capsys, "index", "build", docs, "--out", url)
    assert code == 0 and "2 documents" in out and f"luthier ask {url}" in out
    code, _, err = luthier(capsys, "index", "build", docs, "--out", url)
    assert code == 2 and "is an index already" in err
    (docs / "bikes.txt").write_text("Bikes stand in the yard.")
    assert luthier(capsys, "index", "add", url, docs / "bikes.txt")[0] == 0
    (docs / "canteen.txt").write_text("The canteen opens at one.")
    (docs / "bikes.txt").unlink()
    changed = json.loads(luthier(capsys, "index", "update", url, "--json")[1])
    assert (changed["version"], changed["updated"], changed["removed"]) == (3, 1, 1)
    for mode in ("hybrid", "rrf", "bm25", "vectors"):
        words = ("index", "search", url, "canteen grade opens noon bikes", "--mode", mode, "--json")
        found = json.loads(luthier(capsys, *words)[1])
        assert [one["text"] for one in found] == ["The canteen opens at one."]
        assert len(json.loads(luthier(capsys, *words, "--group", "hr")[1])) == 2
        assert "noon" in luthier(capsys, *words, "--version", 1)[1]
    assert luthier(capsys, "index", "remove", url, "canteen.txt")[0] == 0
    listed = json.loads(luthier(capsys, "index", "list", url, "--json")[1])
    assert [one["id"] for one in listed] == ["pay.md"]
    assert luthier(capsys, "index", "restore", url, 2)[0] == 0
    done = [
        one["action"] for one in json.loads(luthier(capsys, "index", "history", url, "--json")[1])
    ]
    assert done == ["build", "add", "update", "remove", "restore 2"]
    question = "When does the canteen open?"
    code, out, _ = luthier(capsys, "ask", url, question, "--model", model, "--json")
    (citation,) = json.loads(out)["citations"]
    assert citation["text"] == "The canteen opens at noon."
    code, out, _ = luthier(capsys, "index", "update", url)
    assert code == 0 and "1 updated, 1 removed" in out


def test_readers_keep_their_version_until_they_look_again(bucket: str, docs: Path) -> None:
    encoder = WordEncoder()
    building.build([str(docs)], f"{bucket}/x", loaded=encoder)
    index = Index.open(f"{bucket}/x/", encoder)
    assert not index.refresh()
    (docs / "canteen.txt").write_text("The canteen opens at one.")
    building.update(f"{bucket}/x", loaded=encoder)
    assert "noon" in index.search("canteen opens", 1)[0].text
    assert index.refresh() and index.version == 2
    assert "at one" in index.search("canteen opens", 1)[0].text


# ---- one writer at a time ----------------------------------------------------------------------


def test_a_second_writer_is_refused_and_the_first_goes_on(
    bucket: str, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0.8)
    url, encoder = f"{bucket}/x", WordEncoder()
    building.build([str(docs)], url, loaded=encoder)
    with writing(url) as turn:
        time.sleep(2.2)  # longer than the lock lasts: it is renewed
        with pytest.raises(InputError, match=rf"Another process is writing s3.*{os.getpid()}"):
            building.remove(url, ["pay.md"])
        turn.still()
    building.remove(url, ["pay.md"])
    assert Index.open(url, encoder).ids() == {"canteen.txt"}


def test_of_many_writers_at_once_none_undoes_what_another_did(bucket: str, docs: Path) -> None:
    url = f"{bucket}/x"
    for number in range(4):
        (docs / f"d{number}.txt").write_text(f"Room {number} is free.")
    building.build([str(docs)], url, loaded=WordEncoder())
    done, refused = [], []

    def take_out(number: int) -> None:
        while True:
            try:
                building.remove(url, [f"d{number}.txt"])
                done.append(number)
                return
            except InputError as error:
                assert "Another process is writing" in str(error)
                refused.append(number)
                time.sleep(0.05)

    threads = [threading.Thread(target=take_out, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(done) == [0, 1, 2, 3]
    index = Index.open(url, WordEncoder())
    assert index.ids() == {"canteen.txt", "pay.md"}
    assert [change["removed"] for change in index.history()] == [0, 1, 1, 1, 1]


def test_a_writer_that_stood_still_too_long_writes_nothing(
    bucket: str, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0.8)
    # it does not renew, as if the whole process were stopped
    monkeypatch.setattr(lease.Lease, "_keep", lambda self: None)
    url, encoder = f"{bucket}/x", WordEncoder()
    building.build([str(docs)], url, loaded=encoder)
    with pytest.raises(RunError, match="took over the writing"), writing(url) as turn:
        with pytest.raises(InputError, match=r"runs out 0\.8 seconds after"):
            building.remove(url, ["pay.md"])
        time.sleep(2.1)
        building.remove(url, ["pay.md"])
        turn.still()
    # one that was stopped between looking and writing: the condition of the put holds it up
    place = place_at(url)
    with place.writing() as turn:
        turn._lease.still = lambda: None  # type: ignore[attr-defined]
        time.sleep(2.1)
        building.remove(url, ["canteen.txt"])
        with pytest.raises(RunError, match="meanwhile"):
            turn.replace(b"{}")
    assert Index.open(url, encoder).ids() == set()
    assert len(read_manifest(url).history) == 3


# ---- kill -9 -----------------------------------------------------------------------------------

_WRITER = """
import sys, time
from retrieval_fakes import WordEncoder
from luthier.retrieval import building, index, lease, store
import lancedb, obstore
lease.SECONDS = 0.5
def held(self):
    print("written", flush=True)
    time.sleep(60)
if sys.argv[2] == "held":  # the tables are written, and no version is named yet
    store.Store.settle = held
print("ready", flush=True)
sys.stdin.readline()
building.update(sys.argv[1], loaded=WordEncoder())
print("done", flush=True)
"""


def _write(docs: Path, number: int) -> None:
    for name in range(20):
        (docs / f"d{name}.txt").write_text(f"Gauge {name} reads {number}. " + f"Word{name}. " * 20)


def _number(url: str) -> int:
    """The number that all documents and all passages say; fails where they do not agree."""
    index = Index.open(url, WordEncoder())
    texts = [index.text_of(name) or "" for name in sorted(index.ids())]
    texts += [passage.text for passage in index.search("Gauge reads", 500, mode="bm25")]
    said = {int(n) for text in texts for n in re.findall(r"reads (\d+)\.", text)}
    assert len(texts) >= 40 and len(said) == 1
    return said.pop()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_writer_leaves_one_version_whole_and_its_lock_runs_out(
    bucket: str, endpoint: str, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    url = f"{bucket}/x"
    _write(docs, 0)
    building.build([str(docs)], url, loaded=WordEncoder())
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, url, how],
            env={**os.environ, **environment(endpoint), "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for how in ("free", "held")
    ]
    try:
        for round_, writer in enumerate(writers, 1):
            assert writer.stdin is not None and writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            before = _number(url)
            _write(docs, round_)
            if round_ > 1:
                time.sleep(2.1)  # the lock of the one before runs out
            writer.stdin.write("go\n")
            writer.stdin.flush()
            if round_ == 1:
                time.sleep(0.15)
            else:
                assert writer.stdout.readline() == "written\n"
            writer.send_signal(signal.SIGKILL)
            writer.wait(10)
            assert _number(url) in ((before, 1) if round_ == 1 else (before,))
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    end = time.monotonic() + 10
    while True:  # refused until the lock has run out, and then it goes through
        try:
            building.update(url, loaded=WordEncoder())
            break
        except InputError as error:
            assert "Another process is writing" in str(error) and time.monotonic() < end
            time.sleep(0.2)
    assert _number(url) == 2
    assert "vectors" not in "".join(place_at(url).names())


# ---- what goes wrong ---------------------------------------------------------------------------


def test_a_bucket_that_is_not_there(capsys: Capture, bucket: str, docs: Path) -> None:
    for words in (("list", f"{bucket}-no/x"), ("build", docs, "--out", f"{bucket}-no/x")):
        code, _, err = luthier(capsys, "index", *words)
        assert code == 2 and f"{bucket}-no does not exist" in err
    code, _, err = luthier(capsys, "index", "list", f"{bucket}/x")
    assert code == 2 and f"Make one: luthier index build DOCUMENTS --out {bucket}/x" in err
    assert not is_index(f"{bucket}/x")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("ftp://host/x", "no index can lie at ftp://"),
        ("s3://bucket", "Write s3://BUCKET/PATH"),
        ("s3://bucket/a/../b", "Write s3://BUCKET/PATH"),
        ("s3://bucket/a b", "Write s3://BUCKET/PATH"),
        ("s3:///x", "Write s3://BUCKET/PATH"),
    ],
)
def test_an_address_that_is_none(capsys: Capture, where: str, said: str) -> None:
    code, _, err = luthier(capsys, "index", "list", where)
    assert code == 2 and said in err


def test_keys_that_are_refused(
    capsys: Capture, bucket: str, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refuses(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = b"<Error><Code>InvalidAccessKeyId</Code><Message>No.</Message></Error>"
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(403)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    try:
        for words in (("list", "s3://b/x"), ("build", docs, "--out", "s3://b/x")):
            code, _, err = luthier(capsys, "index", *words)
            assert code == 2 and "may not be used with these credentials" in err
            assert (
                "Set AWS_ACCESS_KEY_ID" in err and "secret" not in err.lower().split("set aws")[0]
            )
    finally:
        server.shutdown()
        server.server_close()


def test_a_store_that_cannot_be_reached(
    capsys: Capture, bucket: str, docs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "stores.yaml"
    settings.write_text('"s3://b": {endpoint: "http://127.0.0.1:9", retries: 0, seconds: 5}\n')
    settings.chmod(0o600)
    monkeypatch.setenv("LUTHIER_STORAGE", str(settings))
    code, _, err = luthier(capsys, "index", "list", "s3://b/x")
    assert code == 2 and "s3://b/x cannot be reached" in err and "AWS_ENDPOINT_URL" in err


def test_a_store_that_goes_away_while_it_is_read(
    docs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "stores.yaml"
    settings.write_text('"s3://": {retries: 0, seconds: 5}\n')
    monkeypatch.setenv("LUTHIER_STORAGE", str(settings))
    with s3_server() as endpoint:
        url = f"{new_bucket(endpoint, monkeypatch)}/x"
        monkeypatch.setenv("LUTHIER_STORAGE", str(settings))
        building.build([str(docs)], url, loaded=WordEncoder())
        index = Index.open(url, WordEncoder())
    for failing in (
        lambda: index.search("canteen"),
        lambda: index.refresh(),
        lambda: index.text_of("canteen.txt"),
        lambda: building.update(url, loaded=WordEncoder()),
    ):
        with pytest.raises(LuthierError, match="cannot be reached"):
            failing()


def test_the_file_of_stores(
    capsys: Capture, bucket: str, docs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held = {
        "endpoint": os.environ["AWS_ENDPOINT_URL"],
        "access_key_id": "other",
        "secret_access_key": "s",
        "region": "eu-central-1",
    }
    for name in environment(""):
        monkeypatch.delenv(name)
    settings = tmp_path / "stores.yaml"
    monkeypatch.setenv("LUTHIER_STORAGE", str(settings))
    settings.write_text(json.dumps({"s3://": {}, bucket: held}))
    building.build([str(docs)], f"{bucket}/x", loaded=WordEncoder())
    assert Index.open(f"{bucket}/x", WordEncoder()).search("canteen", 1)
    luthier(capsys, "index", "list", f"{bucket}/x")
    for said, wrong in (
        ("Did you mean 'endpoint'", {bucket: {"end_point": "x"}}),
        ("account_name is nothing that s3:// knows", {bucket: {"account_name": "x"}}),
        ("no table of stores", [1]),
        ("retries", {bucket: {"retries": "many"}}),
    ):
        settings.write_text(json.dumps(wrong))
        code, _, err = luthier(capsys, "index", "list", f"{bucket}/x")
        assert code == 2 and said in err
    settings.unlink()
    assert "which does not exist" in luthier(capsys, "index", "list", f"{bucket}/x")[2]


def test_the_arms_of_a_task_read_an_index_elsewhere(
    bucket: str, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.arms.grounded import index_of, place_of
    from luthier.models.pool import ModelPool
    from luthier.runs import anchored
    from luthier.task import Task

    monkeypatch.setattr(ModelPool, "encoder", lambda self, name: WordEncoder())
    (tmp_path / "rows.jsonl").write_text('{"q": "When?", "a": "noon"}\n')
    write_tiny_model(tmp_path / "model")

    def task(index: str, size: int = 1000) -> Task:
        (tmp_path / "task.yaml").write_text(
            "name: t\nkind: qa\nmodel: model\ndocuments: docs\n"
            'data: {train: rows.jsonl, input: "{{ q }}", output: "{{ a }}"}\n'
            f'retrieval: {{index: "{index}", size: {size}}}\n'
        )
        return Task.load(tmp_path / "task.yaml")

    url = f"{bucket}/shared"
    for _ in range(2):  # made by the first, read by the second
        index = index_of(task(url), tmp_path / "run" / "arms" / "rag", ModelPool())
        assert str(index.place) == url and index.ids() == {"canteen.txt", "pay.md"}
    assert not (tmp_path / "run").exists()
    assert anchored(task(url)).retrieval.index == url
    with pytest.raises(InputError, match="1000 characters that overlap by 150, not 500"):
        index_of(task(url, 500), tmp_path / "run" / "arms" / "rag", ModelPool())
    near = anchored(task("near"))
    assert str(place_of(near, tmp_path / "run")) == str(tmp_path / "near")
