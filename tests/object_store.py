"""An S3 endpoint of the standard library: what object_store asks of one, and its promises.

Whole and ranged reads, puts with If-None-Match and If-Match (decided under one lock, as S3 does),
listing with prefix and delimiter, deletes one by one and many at once, uploads in parts. A request
without a key id is refused as S3 refuses it; signatures are not verified. A put to a name alone
makes a bucket, whoever asks.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import re
import socket
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape, unescape

import pytest


@dataclass
class Held:
    data: bytes
    tag: str
    modified: float


@dataclass
class Server:
    """Buckets, what they hold by its key, and uploads that are under way."""

    buckets: dict[str, dict[str, Held]] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """A server on a free port; gives its address."""
    handler = type("Handler", (_Handler,), {"store": Server()})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join()


def environment(endpoint: str) -> dict[str, str]:
    """By which the server is reached."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }


def new_bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, as s3://NAME, for the environment of the test."""
    import obstore
    from obstore.store import HTTPStore

    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LUTHIER_STORAGE", raising=False)
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    obstore.put(HTTPStore(endpoint, client_options={"allow_http": True}), name, b"")
    return f"s3://{name}"


class _Server(ThreadingHTTPServer):
    """Which can end connections that are kept open, too."""

    daemon_threads = True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._open: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    store: Server
    held: dict[str, Held]
    bucket: str

    def do_GET(self) -> None:
        self._handle()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None: ...

    def _handle(self) -> None:
        body = self._body()
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        name, _, key = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        with self.store.lock:
            if self.command == "PUT" and not key:
                self.store.buckets.setdefault(name, {})
                return self._say(200, headers={"ETag": _tag(body)})
            if "Credential=" not in self.headers.get("authorization", ""):
                return self._refuse(403, "InvalidAccessKeyId")
            if name not in self.store.buckets:
                return self._refuse(404, "NoSuchBucket")
            self.bucket, self.held = name, self.store.buckets[name]
            if self.command == "GET" and not key:
                return self._list(query)
            if self.command in ("GET", "HEAD"):
                return self._get(key)
            if self.command == "PUT" and "partNumber" in query:
                self.store.parts[query["uploadId"]][int(query["partNumber"])] = body
                return self._say(200, headers={"ETag": _tag(body)})
            if self.command == "PUT":
                return self._put(key, body)
            if self.command == "POST":
                return self._post(key, query, body)
            if query.get("uploadId"):
                self.store.parts.pop(query["uploadId"], None)
            self.held.pop(key, None)
            return self._say(204)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _get(self, key: str) -> None:
        held = self.held.get(key)
        if held is None:
            return self._refuse(404, "NoSuchKey")
        headers = {
            "ETag": held.tag,
            "Last-Modified": email.utils.formatdate(held.modified, usegmt=True),
        }
        data, status, size = held.data, 200, len(held.data)
        if found := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("range", "")):
            first, last = found.groups()
            start = int(first) if first else max(0, size - int(last))
            end = min(int(last) + 1 if first and last else size, size)
            if start >= size:
                return self._refuse(416, "InvalidRange")
            data, status = data[start:end], 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return self._say(status, data, headers)

    def _put(self, key: str, body: bytes) -> None:
        if source := self.headers.get("x-amz-copy-source"):
            body = self.held[urllib.parse.unquote(source).lstrip("/").partition("/")[2]].data
        if not self._may_put(key):
            return
        self.held[key] = Held(body, _tag(body), time.time())
        said = f"<CopyObjectResult><ETag>{_tag(body)}</ETag></CopyObjectResult>" if source else ""
        self._say(200, said.encode(), {"ETag": _tag(body)})

    def _may_put(self, key: str) -> bool:
        held = self.held.get(key)
        wanted = self.headers.get("if-match")
        if wanted and held is None:
            self._refuse(404, "NoSuchKey")
        elif (wanted and held and held.tag.strip('"') != wanted.strip('"')) or (
            self.headers.get("if-none-match") and held is not None
        ):
            self._refuse(412, "PreconditionFailed")
        else:
            return True
        return False

    def _post(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "delete" in query:
            said = []
            for name in re.findall(rb"<Key>(.*?)</Key>", body):
                self.held.pop(unescape(name.decode()), None)
                said.append(f"<Deleted><Key>{name.decode()}</Key></Deleted>")
            return self._xml(f"<DeleteResult>{''.join(said)}</DeleteResult>")
        if "uploads" in query:
            number = uuid.uuid4().hex
            self.store.parts[number] = {}
            return self._xml(
                f"<InitiateMultipartUploadResult><Bucket>{self.bucket}</Bucket><Key>{escape(key)}</Key>"
                f"<UploadId>{number}</UploadId></InitiateMultipartUploadResult>"
            )
        if not self._may_put(key):
            return None
        parts = self.store.parts.pop(query["uploadId"])
        data = b"".join(parts[number] for number in sorted(parts))
        self.held[key] = Held(data, _tag(data), time.time())
        return self._xml(
            f"<CompleteMultipartUploadResult><Key>{escape(key)}</Key>"
            f"<ETag>{escape(_tag(data))}</ETag></CompleteMultipartUploadResult>"
        )

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("start-after", "")
        files, folders = [], set()
        for key in sorted(k for k in self.held if k.startswith(prefix) and k > after):
            below = key[len(prefix) :]
            if delimiter and delimiter in below:
                folders.add(prefix + below.split(delimiter)[0] + delimiter)
            else:
                files.append(key)
        said = [f"<Name>{self.bucket}</Name><KeyCount>{len(files)}</KeyCount>"]
        said.append("<IsTruncated>false</IsTruncated>")
        for key in files:
            held = self.held[key]
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(held.modified))
            said.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(held.data)}</Size>"
                f"<LastModified>{stamp}</LastModified><ETag>{escape(held.tag)}</ETag></Contents>"
            )
        said += [
            f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>"
            for one in sorted(folders)
        ]
        self._xml(f"<ListBucketResult>{''.join(said)}</ListBucketResult>")

    def _xml(self, text: str, status: int = 200) -> None:
        head = '<?xml version="1.0" encoding="UTF-8"?>'
        self._say(status, (head + text).encode(), {"Content-Type": "application/xml"})

    def _refuse(self, status: int, code: str) -> None:
        self._xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status)

    def _say(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _tag(data: bytes) -> str:
    # by what is written and when: two puts of the same bytes are two versions
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
