"""`luthier redact`: what it writes and says, and how it refuses."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from run_samples import luthier

from luthier.files import read_jsonl

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("q,a\nmail anna@firma.se,ok\n")
    return tmp_path


def test_there_and_back(capsys: Capture, folder: Path) -> None:
    code, out, _ = luthier(
        capsys, "redact", "train.csv", "test.csv", "--out", "new", "--map", "keys/map.json"
    )
    assert code == 0
    assert "new/train.jsonl: 1 row\n" in out and "replaced: 2 e-mail addresses\n" in out
    (train,), (test,) = (
        read_jsonl(folder / "new/train.jsonl"),
        read_jsonl(folder / "new/test.jsonl"),
    )
    assert train == test and train["q"].startswith("mail [EMAIL_")
    assert stat.S_IMODE((folder / "keys/map.json").stat().st_mode) == 0o600
    code, out, _ = luthier(
        capsys, "redact", "new/test.jsonl", "--undo", "--map", "keys/map.json",
        "--out", "back.jsonl", "--json",
    )  # fmt: skip
    assert code == 0 and json.loads(out)["restored"] == 1
    assert read_jsonl(folder / "back.jsonl") == [{"q": "mail anna@firma.se", "a": "ok"}]
    # a later file shares the table
    code, out, _ = luthier(
        capsys, "redact", "train.csv", "--out", "later.jsonl", "--map", "keys/map.json", "--json"
    )
    assert code == 0 and json.loads(out)["replaced"] == {"EMAIL": 1}
    assert read_jsonl(folder / "later.jsonl") == [train]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "n.jsonl"], "--map"),
        (["--out", "n.jsonl", "--map", "map.json"], "must lie apart"),
        (["--out", "n.csv", "--map", "k/map.json"], "n.jsonl"),
        (["--out", "n.jsonl", "--map", "k/map.json", "--types", "emial"], "'EMAIL'"),
        (["--out", "n.jsonl", "--undo"], "--map"),
        (["--out", "n.jsonl", "--undo", "--map", "k/none.json"], "cannot be read"),
        (["--out", "n.jsonl", "--map", "k/map.json", "--least", "2"], "--least"),
    ],
)
def test_wrong_use(capsys: Capture, folder: Path, arguments: list[str], said: str) -> None:
    code, out, err = luthier(capsys, "redact", "train.csv", *arguments)
    assert code == 2 and said in err and out == ""
    assert not (folder / "n.jsonl").exists()


def test_secrets_need_no_table(capsys: Capture, folder: Path) -> None:
    (folder / "s.jsonl").write_text(json.dumps({"q": "password: Summer2024! a@b.se"}) + "\n")
    code, _, _ = luthier(capsys, "redact", "s.jsonl", "--types", "secret", "--out", "n.jsonl")
    assert code == 0
    assert read_jsonl(folder / "n.jsonl") == [{"q": "password: [PASSWORD] a@b.se"}]
