"""A check that was killed goes on: lints that were through, and the cut, are not made again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from run_samples import luthier, write_task

from luthier.data import kept_lints, linting, streaming, twins
from luthier.data.linting import LINTS

MANY = len(list(LINTS))
Capture = pytest.CaptureFixture[str]

#: `luthier check`, whose sixth lint does not come to its end.
STUCK = """
import sys, time
from luthier.data import linting
class Slow(list):
    def __iter__(self):
        for number, (name, check) in enumerate(list.__iter__(self)):
            yield name, (lambda _: time.sleep(600)) if number == 5 else check
linting.LINTS = Slow(linting.LINTS)
sys.argv = ["luthier", "check", sys.argv[1]]
from luthier.cli import main
main()
"""


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_task(tmp_path / "task", tiny_model, rows=160)
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_lints, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "task"


def kept(folder: Path) -> list[Path]:
    return sorted((folder.parent / "cache" / "checks").glob("*/*.json"))


def checked(capsys: Capture, folder: Path) -> tuple[dict[str, Any], str]:
    code, out, err = luthier(capsys, "check", folder, "--json")
    assert code in (0, 1), err
    return json.loads(out), err


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_check_that_was_killed_goes_on(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(folder)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while len(kept(folder)) < 5 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert process.poll() is None
    finally:
        process.kill()  # SIGKILL: nothing can be tidied up
        process.wait()
    assert len(kept(folder)) == 5
    before = {path.name: path.stat().st_mtime_ns for path in kept(folder)}
    resumed, said = checked(capsys, folder)
    assert f"5 of {MANY} lints were finished before" in " ".join(said.split())
    after = {path.name: path.stat().st_mtime_ns for path in kept(folder)}
    assert len(after) == MANY
    assert before.items() <= after.items()  # those five were not written again
    for path in kept(folder):
        path.unlink()
    whole, said = checked(capsys, folder)
    assert "finished before" not in said
    assert whole["findings"] == resumed["findings"]


def test_whatever_a_lint_sees_that_changed_is_looked_at_anew(capsys: Capture, folder: Path) -> None:
    def taken() -> bool:
        return "finished before" in checked(capsys, folder)[1]

    assert not taken()
    assert taken()
    task, rows = folder / "task.yaml", folder / "rows.csv"
    for path, old, new in (
        (rows, "item 7:", "item seven:"),
        (task, "Name the colour.", "Say which colour."),
        (task, "rows.csv", "rows.csv\n  split: {test: 0.3}"),
    ):
        text = path.read_text()
        path.write_text(text.replace(old, new))
        assert not taken(), new
        path.write_text(text)
        assert taken()
    kept(folder)[0].write_text("{")  # damaged: that one is run again
    said = " ".join(checked(capsys, folder)[1].split())
    assert f"of {MANY} lints were finished before" in said


def test_the_cache_does_not_grow_for_ever(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_lints, "_KEPT", 2)
    for number in range(4):
        text = (folder / "task.yaml").read_text()
        (folder / "task.yaml").write_text(text + f"seed: {number}\n")
        checked(capsys, folder)
        (folder / "task.yaml").write_text(text)
    assert len(list((folder.parent / "cache" / "checks").iterdir())) == 2


def test_the_cut_of_a_large_source_is_kept(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "LARGE", 0)
    first, _ = checked(capsys, folder)
    (cut,) = (folder.parent / "cache" / "rows").glob("*/cut-*.npz")

    def no_more(*_: Any, **__: Any) -> Any:
        raise AssertionError("the cut was made again")

    with monkeypatch.context() as patched:
        patched.setattr("luthier.data.splits.columns_of", no_more)
        again, _ = checked(capsys, folder)
        assert again == first
        cut.write_bytes(cut.read_bytes()[:100])  # damaged
        with pytest.raises(AssertionError, match="made again"):
            checked(capsys, folder)
    third, _ = checked(capsys, folder)
    assert third == first


def test_the_search_for_twins_is_kept_for_the_lints_that_are_left(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linting, "MANY", 0)
    first, _ = checked(capsys, folder)
    shared = sorted((folder.parent / "cache" / "checks").glob("*/*.npz"))
    assert "twins.npz" in {path.name for path in shared}
    for path in kept(folder):  # as if it had been killed before any lint was through
        path.unlink()

    def no_more(*_: Any, **__: Any) -> Any:
        raise AssertionError("the search was made again")

    with monkeypatch.context() as patched:
        patched.setattr(twins, "find_twins", no_more)
        again, said = checked(capsys, folder)
        assert "finished before" not in said
        assert again["findings"] == first["findings"]
    for path in [*kept(folder), *shared]:  # damaged: made again
        path.write_bytes(path.read_bytes()[:50])
    third, _ = checked(capsys, folder)
    assert third["findings"] == first["findings"]
