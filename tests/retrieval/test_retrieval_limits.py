"""Files that are made to hang, to swell, or to make their reader call somebody."""

from __future__ import annotations

import http.server
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import InputError
from luthier.evaluation.injection.writing import pdf_of
from luthier.retrieval import apart, documents
from luthier.retrieval.documents import Document, documents_in
from luthier.retrieval.formats import html as html_format


def read(path: Path) -> Document:
    (one,) = documents_in([str(path)], Path())
    return one


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<!ENTITY x 'fetched'>")

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("long", [False, True])
def test_html_runs_nothing_and_fetches_nothing(
    tmp_path: Path, listener: tuple[str, list[str]], long: bool
) -> None:
    url, asked = listener
    secret = tmp_path / "secret.txt"
    secret.write_text("the key is 42")
    page = f"""<?xml version="1.0"?><!DOCTYPE html SYSTEM "{url}/dtd" [
    <!ENTITY stolen SYSTEM "file://{secret}"> <!ENTITY far SYSTEM "{url}/entity">]>
    <html><head><base href="{url}/"><meta http-equiv="refresh" content="0; url={url}/refresh">
    <link rel="stylesheet" href="{url}/style.css"><style>@import url({url}/import.css);</style>
    <script src="{url}/script.js"></script></head>
    <body background="{url}/back.png" onload="steal()"><img src="{url}/a.png" srcset="{url}/b 2x">
    <iframe src="{url}/frame"></iframe><object data="{url}/object"></object>
    <script>document.write("written by a script")</script>
    <p>Seen. &stolen; &far;</p>{"<p>more</p>" * 30_000 * long}</body></html>"""
    path = tmp_path / "a.html"
    path.write_text(page)
    assert (len(page) > html_format.SMALL) == long
    text = read(path).text
    assert "Seen." in text
    assert "42" not in text and "written" not in text and "fetched" not in text
    time.sleep(0.1)
    assert asked == []


def test_pdf_runs_nothing_and_fetches_nothing(
    tmp_path: Path, listener: tuple[str, list[str]]
) -> None:
    url, asked = listener
    action = (
        b"/OpenAction << /S /JavaScript /JS (app.launchURL\\('%s/js'\\)) >> /AA << /WC << /S /URI "
        b"/URI (%s/uri) >> >>" % (url.encode(), url.encode())
    )
    made = pdf_of(b"BT /F1 12 Tf 72 720 Td (Seen.) Tj ET").replace(
        b"/Type /Catalog", b"/Type /Catalog " + action
    )
    (tmp_path / "a.pdf").write_bytes(made)
    assert "Seen." in read(tmp_path / "a.pdf").text
    assert asked == []


def test_docx_fetches_nothing(tmp_path: Path, listener: tuple[str, list[str]]) -> None:
    import docx

    url, asked = listener
    made = docx.Document()
    made.add_paragraph("Seen.")
    made.part.relate_to(
        f"{url}/template.dotx",
        "http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate",
        is_external=True,
    )
    made.save(str(tmp_path / "a.docx"))
    assert "Seen." in read(tmp_path / "a.docx").text
    assert asked == []


@pytest.mark.parametrize("ending", ["txt", "md", "html", "pdf", "docx"])
def test_what_is_too_large_is_refused_unread(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MOST_BYTES", 1 << 20)
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"x" * (1 << 20) + b"x")
    with pytest.raises(InputError, match=r"has 1 MB; a document may have 1"):
        read(path)


def test_html_that_takes_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 2)
    path = tmp_path / "a.html"
    path.write_text("<h1>" * 2_000_000)
    began = time.monotonic()
    with pytest.raises(InputError, match="took longer than 2 s"):
        read(path)
    assert time.monotonic() - began < 14


def test_html_that_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "BYTES", 150 << 20)
    path = tmp_path / "a.html"
    path.write_text("<p>x</p>" * 200_000)
    with pytest.raises(InputError, match="cannot be read as HTML"):
        read(path)


def test_a_small_page_is_never_slow(tmp_path: Path) -> None:
    """The worst of what was tried, as long as a page that is read in this process may be."""
    path = tmp_path / "a.html"
    for piece in ("<h1>", "<p><b>x"):
        path.write_text("<p>top</p>" + piece * ((html_format.SMALL - 100) // len(piece)))
        began = time.process_time()
        read(path)
        assert time.process_time() - began < 10


def bomb(content: bytes) -> bytes:
    """A PDF whose page unpacks to this content."""
    packed = zlib.compress(content, 9)
    made = pdf_of(packed)
    return made.replace(
        b"<< /Length %d >>" % len(packed), b"<< /Filter /FlateDecode /Length %d >>" % len(packed)
    )


def test_a_pdf_that_takes_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 2)
    (tmp_path / "a.pdf").write_bytes(bomb(b"BT /F1 12 Tf " + b"(x) Tj 1 0 Td " * 1_500_000 + b"ET"))
    began = time.monotonic()
    with pytest.raises(InputError, match=r"a\.pdf took longer than 2 s"):
        read(tmp_path / "a.pdf")
    assert time.monotonic() - began < 14


def test_a_pdf_that_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "BYTES", 150 << 20)
    made = bomb(b"BT /F1 12 Tf (" + b"x" * (150 << 20) + b") Tj ET")
    assert len(made) < 1 << 20
    (tmp_path / "a.pdf").write_bytes(made)
    with pytest.raises(InputError, match=r"a\.pdf cannot be read|holds no text"):
        read(tmp_path / "a.pdf")


def test_a_pdf_of_too_much_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "CHARACTERS", 1000)
    (tmp_path / "a.pdf").write_bytes(pdf_of(b"BT /F1 12 Tf (" + b"x" * 2000 + b") Tj ET"))
    with pytest.raises(InputError, match="more than 1,000 characters"):
        read(tmp_path / "a.pdf")


def test_a_reader_writes_no_file_and_starts_nothing(tmp_path: Path) -> None:
    """What the limits of a reader's process are worth, tried in one."""
    import subprocess
    import sys

    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from luthier.retrieval.limits import bounded\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "bounded(1 << 30, 5)\n"
        "import os; os.write(os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY), b'x')\n"
    )
    root = str(Path(apart.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, root, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "File too large" in done.stderr
    assert (tmp_path / "out").stat().st_size == 0
