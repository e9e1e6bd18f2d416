"""Whether a Parquet or Arrow file can be read, tried in a process of its own.

On some damaged files the library does not raise an error: it ends the process. So a file is gone
through once in another one, which may end.
"""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from luthier.data import arrow_batches
from luthier.data.arrow_rows import bomb
from luthier.data.reading import Place
from luthier.errors import InputError

#: Longest that is waited, in seconds: a little, and more for a large file.
_SECONDS, _SECONDS_A_BYTE = 60, 1 / 2**20


def check_undamaged(place: Place, kind: str) -> None:
    """Refuse a file on which the library would end this process, or hang.

    Errors that the library raises are left to the reader, which says them better.

    Raises:
        InputError: it ends the process, takes longer than a minute and a second a MB, or unpacks to
            more than any memory holds.
    """
    stat = place.path.stat()
    code = _tried(place.path.absolute(), kind, stat.st_size, stat.st_mtime_ns)
    if code == arrow_batches.TOO_LARGE:
        raise bomb(place)
    if code < 0:
        raise InputError(
            f"{place.shown} cannot be read as {kind}: it is damaged.",
            fix="Check that it was copied whole and that its ending is right.",
        )


@lru_cache(maxsize=256)
def _tried(path: Path, kind: str, size: int, _changed: int) -> int:
    """The exit code of the process that went through the file; below 0 where something ended it."""
    # not `-m`: a module of the folder one works in could be taken for a library
    command = [sys.executable, "-I", arrow_batches.__file__, kind, str(path)]
    for _ in range(2):  # what ends one process by accident (no memory, a signal) is no damage
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS + size * _SECONDS_A_BYTE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1
        if done.returncode >= 0:
            break
    return done.returncode
