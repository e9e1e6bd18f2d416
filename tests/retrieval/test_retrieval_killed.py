"""A writer that is killed with SIGKILL, at any moment, leaves the old version or the new one."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from retrieval_fakes import WordEncoder

from luthier.retrieval import building
from luthier.retrieval.index import Index

_DOCUMENTS = 40
_WRITER = """
import sys
from pathlib import Path
from retrieval_fakes import WordEncoder
from luthier.retrieval import building, index, store
import lancedb
encoder = WordEncoder()
print("ready", flush=True)
sys.stdin.readline()
building.update(Path(sys.argv[1]), loaded=encoder)
print("done", flush=True)
"""


def _write(docs: Path, number: int) -> None:
    """Every document says the same number; one is new and one is gone with each."""
    docs.mkdir(exist_ok=True)
    for name in range(_DOCUMENTS):
        (docs / f"d{name}.txt").write_text(f"Gauge {name} reads {number}. " + f"Word{name}. " * 20)
    (docs / f"only-{number}.txt").write_text(f"Gauge only reads {number}.")
    (docs / f"only-{number - 1}.txt").unlink(missing_ok=True)


def _number(folder: Path) -> int:
    """The number that all documents and all passages say; fails where they do not agree."""
    index = Index.open(folder, WordEncoder())
    names = sorted(index.ids())
    texts = [index.text_of(name) or "" for name in names]
    found = index.search("Gauge reads", 500, mode="vectors")
    said = {int(n) for text in texts for n in re.findall(r"reads (\d+)\.", text)}
    told = {int(n) for p in found for n in re.findall(r"reads (\d+)\.", p.text)}
    words = {p.document for p in index.search("reads", 500, mode="bm25")}
    assert said == told and len(said) == 1
    number = said.pop()
    assert len(names) == _DOCUMENTS + 1 and f"only-{number}.txt" in names
    assert {p.document for p in found} == words == set(names)
    assert index.manifest.now.documents == _DOCUMENTS + 1
    return number


def _writer(folder: Path) -> subprocess.Popen[str]:
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), str(tests.parent)])
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_update_leaves_one_version_whole(tmp_path: Path) -> None:
    docs, folder = tmp_path / "docs", tmp_path / "index"
    _write(docs, 0)
    building.build([str(docs)], folder, loaded=WordEncoder())
    at, moments = 0, random.Random(0)
    _write(docs, 1)
    began = time.monotonic()
    building.update(folder, loaded=WordEncoder())
    whole = time.monotonic() - began  # what an update takes here and now
    writer = _writer(folder)
    kept = 0
    for round_ in range(2, 6):
        following = _writer(folder)  # loads its libraries while this one writes
        _write(docs, round_)
        before = _number(folder)
        try:
            assert writer.stdin is not None and writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            writer.stdin.write("go\n")
            writer.stdin.flush()
            time.sleep(moments.uniform(0, 1.3 * whole))
            writer.send_signal(signal.SIGKILL)
            writer.wait(10)
            at = _number(folder)
            assert at in (before, round_)
            kept += at == before
        finally:
            writer.kill()
            writer.communicate()
            writer = following
    writer.kill()
    writer.communicate()
    assert kept  # one of them at least was killed before it was done
    # the next one goes through, and nothing of the killed ones is left
    building.update(folder, loaded=WordEncoder())
    assert _number(folder) == 5
    assert not (folder / ".vectors").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_readers_of_a_killed_writers_index_keep_their_version(tmp_path: Path) -> None:
    docs, folder = tmp_path / "docs", tmp_path / "index"
    _write(docs, 0)
    building.build([str(docs)], folder, loaded=WordEncoder())
    reader = Index.open(folder, WordEncoder())
    _write(docs, 1)
    with _writer(folder) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        writer.stdin.write("go\n")
        writer.stdin.flush()
        time.sleep(0.1)
        writer.send_signal(signal.SIGKILL)
        texts = {p.text for p in reader.search("Gauge reads", 500, mode="vectors")}
    assert texts and not any("reads 1." in text for text in texts)
    building.update(folder, loaded=WordEncoder())
    assert _number(folder) == 1
