"""Files that are either the old version or the new one, never half of each."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from luthier.errors import InputError, RunError


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing right or a read-only volume into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise RunError(
                f"The disk is full: {path} could not be written.",
                fix="Free some space; what was written before is kept, and --resume continues.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RunError(
                f"{path} may not be written: {error.strerror}.", fix="Choose another folder."
            ) from error
        raise


def write_atomically(path: Path, write: Callable[[Path], None], mode: int = 0o644) -> None:
    """Call `write` on a temporary file beside `path`, flush it to disk, and rename it into place.

    A reader, or a process that comes after a kill, sees the old file or the new one. Until it is
    whole only its owner may read it; then `mode` says who may.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            write(part)
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.chmod(mode)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically. Lone surrogates are written as "?"."""
    data = text.encode("utf-8", errors="replace")

    def write(part: Path) -> None:
        part.write_bytes(data)

    write_atomically(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, indented, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """Read one JSON document.

    Raises:
        InputError: the file is missing or broken; the message names the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read the rows that `write_jsonl` wrote.

    Raises:
        InputError: the file is missing or a line is broken; the message names the line.
    """
    rows = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise InputError(f"{path} line {number}: {error}.") from None
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    return rows


@contextlib.contextmanager
def folder_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; rename it into place when the block ends well.

    A folder already at `path` is replaced. On an exception the temporary folder is removed; after a
    kill the next call removes it.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        ours = f".{path.name}.{_host()}-{os.getpid()}-"
        part = Path(tempfile.mkdtemp(prefix=ours, suffix=".part", dir=path.parent))
        try:
            yield part
            part.chmod(0o755)
            if path.exists():
                shutil.rmtree(path)
            part.replace(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _clear(path: Path) -> None:
    """Remove the temporary folders for `path` of processes of this machine that are gone."""
    ours = f".{path.name}.{_host()}-"
    for part in path.parent.iterdir():
        if not (part.name.startswith(ours) and part.name.endswith(".part")):
            continue
        process = part.name.removeprefix(ours).partition("-")[0]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(part, ignore_errors=True)


def _host() -> str:
    """This machine, in eight letters: of a folder that others write to, nothing of theirs is
    removed."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def short(path: Path) -> Path:
    """Relative to the working directory where that is inside it."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


#: Made once: `json.dumps` makes an encoder for each call with options, and there are millions.
_SORTED = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def hash_of(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(_SORTED.encode(value).encode()).hexdigest()
