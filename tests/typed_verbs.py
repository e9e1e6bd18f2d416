"""The verbs as they are typed, for tests of what they say."""

from __future__ import annotations

import sys

import pytest

from luthier.cli import main

Capture = pytest.CaptureFixture[str]


def luthier(capsys: Capture, *words: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command."""
    before = sys.argv
    sys.argv = ["luthier", *map(str, words)]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return int(ended.value.code or 0), said.out, said.err
