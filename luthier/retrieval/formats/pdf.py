"""PDF, read in a process of its own: a file that hangs or swells takes nothing down with it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

from luthier.errors import InputError
from luthier.retrieval import pdf_text
from luthier.retrieval.documents import KINDS, Document, Found, labelled, made_plain

#: Seconds and bytes of memory that reading one file may take.
SECONDS = 60
BYTES = 2 << 30
_PAGES = 5000
_CHARACTERS = 50_000_000


@KINDS.register("pdf")
def pdf(found: Found) -> Iterator[Document]:
    """One document; each page begins a heading "page N" below the outermost."""
    limits = (BYTES, SECONDS, _PAGES, _CHARACTERS)
    try:
        done = subprocess.run(
            [sys.executable, "-I", pdf_text.__file__, str(found.path), *map(str, limits)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS + 10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{found.shown} took longer than {SECONDS} s to read.", fix="Print it to a new PDF."
        ) from None
    if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
        raise InputError(
            f"{found.shown} took longer than {SECONDS} s to read.", fix="Print it to a new PDF."
        )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = said[-1] if said else f"the reader ended with {done.returncode}"
        raise InputError(
            f"{found.shown} cannot be read as PDF: {why}.",
            fix="Check that it was copied whole, or print it to a new PDF.",
        )
    held = json.loads(done.stdout)
    text = ""
    headings: list[tuple[int, int, str]] = []
    hidden: tuple[str, ...] = ()
    for number, page in enumerate(held["pages"], 1):
        kept, signs = made_plain(page)
        hidden = (*hidden, *signs)
        headings.append((len(text), 6, f"page {number}"))
        text += kept.strip("\n") + "\n\n"
    if held["hidden"]:
        hidden = (*hidden, f"hidden: {held['hidden']} characters that no reader sees (taken out)")
    if not text.strip():
        raise InputError(
            f"{found.shown} holds no text.", fix="It may be scanned: run text recognition on it."
        )
    document = Document(found.name, text, headings=tuple(headings), suspicious=hidden)
    title = made_plain(held["title"])[0].strip()
    yield labelled(document, {"title": title}, found.shown)
