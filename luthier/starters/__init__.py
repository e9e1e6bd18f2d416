"""Small written task folders, one for each kind of task, that `luthier init` starts from."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from luthier.errors import InputError, did_you_mean
from luthier.files import disk_errors, write_atomically


def kinds() -> list[str]:
    """The kinds of task there is a starter for, sorted."""
    here = resources.files(__name__)
    return sorted(item.name for item in here.iterdir() if (item / "task.yaml").is_file())


def write_starter(kind: str, folder: Path) -> list[Path]:
    """Copy the starter of a kind to a new or empty folder.

    Args:
        kind: one of `kinds()`.
        folder: where task.yaml and data/ go; made if it is missing.

    Returns:
        The files written, sorted.

    Raises:
        InputError: there is no such starter, or `folder` is a file or holds something already.
        RunError: the disk is full or may not be written.
    """
    known = kinds()
    if kind not in known:
        raise InputError(f"There is no starter for kind {kind!r}.", fix=did_you_mean(kind, known))
    fix = "Name a new folder; nothing was written."
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file.", fix=fix)
    with disk_errors(folder):
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty.", fix=fix)
        source = resources.files(__name__) / kind
        return [_copy(item, folder / name) for name, item in sorted(_files(source))]


def _files(source: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    """(path relative to the starter, file) for each file below `source`."""
    found: list[tuple[str, Traversable]] = []
    for item in source.iterdir():
        if item.is_dir():
            found += _files(item, f"{prefix}{item.name}/")
        else:
            found.append((f"{prefix}{item.name}", item))
    return found


def _copy(item: Traversable, path: Path) -> Path:
    data = item.read_bytes()

    def write(part: Path) -> None:
        part.write_bytes(data)

    write_atomically(path, write)
    return path
