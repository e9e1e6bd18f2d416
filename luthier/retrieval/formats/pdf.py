"""PDF, read in a process of its own: a file that hangs or swells takes nothing down with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from luthier.errors import InputError
from luthier.retrieval.documents import KINDS, Document, Found, labelled, made_plain

#: Seconds and bytes of memory that reading one file may take.
SECONDS = 60
BYTES = 2 << 30
_PAGES = 5000

_READER = """
import json, resource, sys, warnings
resource.setrlimit(resource.RLIMIT_AS, ({bytes}, {bytes}))
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
import logging
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
from pypdf import PdfReader
reader = PdfReader(sys.argv[1])
if reader.is_encrypted and not reader.decrypt(""):
    raise SystemExit("it is protected by a password")
if len(reader.pages) > {pages}:
    raise SystemExit("it has %d pages" % len(reader.pages))
info = reader.metadata or {{}}
json.dump({{"title": str(info.get("/Title") or ""), "pages": [p.extract_text() or "" for p in
reader.pages]}}, sys.stdout)
"""


@KINDS.register("pdf")
def pdf(found: Found) -> Iterator[Document]:
    """One document; each page begins a heading "page N" below the outermost."""
    code = _READER.format(bytes=BYTES, seconds=SECONDS, pages=_PAGES)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code, str(found.path)],
            capture_output=True,
            timeout=SECONDS + 10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{found.shown} took longer than {SECONDS} s to read.", fix="Print it to a new PDF."
        ) from None
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
    if not text.strip():
        raise InputError(
            f"{found.shown} holds no text.", fix="It may be scanned: run text recognition on it."
        )
    document = Document(found.name, text, headings=tuple(headings), suspicious=hidden)
    title = made_plain(held["title"])[0].strip()
    yield labelled(document, {"title": title}, found.shown)
