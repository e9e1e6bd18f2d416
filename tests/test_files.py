"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.files import folder_atomically

KILLED = """
import os, pathlib, signal, sys
from luthier.files import folder_atomically
with folder_atomically(pathlib.Path(sys.argv[1])) as part:
    (part / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    home = tmp_path / "made"
    with pytest.raises(ZeroDivisionError), folder_atomically(home) as part:
        (part / "a").write_text("1")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with folder_atomically(home) as part:
        (part / "a").write_text("1")
        assert not home.exists()
    with folder_atomically(home) as part:
        (part / "b").write_text("2")
        assert (home / "a").is_file()
    assert [path.name for path in home.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [home]


def test_what_a_kill_left_behind_is_removed_by_the_next_call(tmp_path: Path) -> None:
    home = tmp_path / "made"
    subprocess.run([sys.executable, "-c", KILLED, str(home)], check=False)
    assert [path.name.startswith(".made.") for path in tmp_path.iterdir()] == [True]
    with folder_atomically(home) as part:
        (part / "whole").write_text("x")
    assert list(tmp_path.iterdir()) == [home]


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    here = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    others = [
        f".made.{here}-{os.getpid()}-abc.part",  # at work
        f".made.elsewhr-{gone.pid}-abc.part",  # of another machine
        f".made.more.{here}-{gone.pid}-abc.part",  # of another folder
        ".made.abc.part",  # nobody knows whose
    ]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / f".made.{here}-{gone.pid}-abc.part").mkdir()
    with folder_atomically(tmp_path / "made"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"made", *others}
