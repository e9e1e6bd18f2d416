"""Which version of this program something was made by."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import luthier


@functools.cache
def program() -> str:
    """A hash of this program's files: what another version kept is not taken for its own."""
    digest = hashlib.sha256(luthier.__version__.encode())
    root = Path(luthier.__file__).parent
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".yaml", ".json", ".jsonl", ".txt") and path.is_file():
            digest.update(f"{path.relative_to(root)}:{path.stat().st_size}:".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
