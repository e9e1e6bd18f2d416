"""Reading a file in a process of its own, so that one that hangs or swells takes nothing down.

A reader is a program (`pdf_text.py`, `html_text.py`): `python -I PROGRAM FILE LIMIT...`. It calls
`bounded` first, and prints one JSON document.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

from luthier.errors import InputError
from luthier.retrieval.documents import Found

#: Seconds and bytes of memory that reading one file may take, and characters that it may give.
SECONDS = 60
BYTES = 2 << 30
CHARACTERS = 50_000_000


def read_apart(found: Found, program: str, kind: str, fix: str, *more: int) -> dict[str, Any]:
    """What a reader prints of a file.

    Args:
        found: the file.
        program: path of the reader.
        kind: what the file should be, for messages.
        fix: what to do with one that cannot be read.
        more: further limits that the reader takes.

    Raises:
        InputError: it cannot be read, or not within the limits.
    """
    limits = (BYTES, SECONDS, CHARACTERS, *more)
    try:
        done = subprocess.run(
            [sys.executable, "-I", program, str(found.path), *map(str, limits)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS + 10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _too_slow(found, fix) from None
    if -done.returncode in (getattr(signal, "SIGXCPU", None), getattr(signal, "SIGKILL", None)):
        raise _too_slow(found, fix)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = said[-1] if said else f"the reader ended with {done.returncode}"
        if "MemoryError" in why:
            why = f"it takes more than {BYTES >> 20} MB of memory"
        raise InputError(f"{found.shown} cannot be read as {kind}: {why}.", fix=fix)
    held: dict[str, Any] = json.loads(done.stdout)
    return held


def _too_slow(found: Found, fix: str) -> InputError:
    return InputError(f"{found.shown} took longer than {SECONDS} s to read.", fix=fix)
