"""Making an index and keeping it current.

Documents are compared by id and content hash: what is unchanged is left alone, what changed is
replaced, and on `update` what is gone is removed. Tables are written first and named by the
manifest last, so a reader sees the old version or the new one, and so does everybody after a kill.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.refused import Refused
from luthier.errors import InputError
from luthier.files import hash_of
from luthier.progress import Reporter
from luthier.retrieval.chunks import Chunk, Chunking, chunks_of
from luthier.retrieval.documents import Document, documents_in, name_below, read_labels
from luthier.retrieval.hostile import suspicions
from luthier.retrieval.index import ENCODER, Index, needs_lancedb
from luthier.retrieval.manifest import (
    Change,
    Manifest,
    must_fit,
    read_manifest,
    write_manifest,
    writing,
)
from luthier.retrieval.older import opened_by
from luthier.retrieval.store import CHUNKS, DOCUMENTS, Store, chunk_row

#: Passages that are encoded and written at once; after a kill at most these are encoded again.
_SLICE = 1024
_SPOOL = ".vectors"


@dataclass
class Written:
    """What a change of an index came to.

    Attributes:
        change: the version that was made, or the last one where nothing changed.
        refused: files that could not be read.
        suspicious: passages that read like instructions to a model, by document.
        notes: what else there is to tell.
    """

    change: Change
    refused: Refused
    suspicious: dict[str, int] = field(default_factory=dict)
    changed: bool = True
    notes: list[str] = field(default_factory=list)


def build(
    sources: Sequence[str],
    out: Path,
    *,
    base: Path = Path(),
    encoder: str = ENCODER,
    chunking: Chunking | None = None,
    labels: Path | None = None,
    reporter: Reporter | None = None,
    refused: Refused | None = None,
    loaded: Any = None,
) -> Written:
    """Make an index of documents.

    Args:
        sources, base: as for `documents_in`.
        out: a new folder, or one that a killed build left.
        encoder: catalogue name, folder or hub id of the sentence encoder.
        chunking: how documents are cut.
        labels: a file of labels, see `read_labels`.
        reporter: hears how far it is.
        refused: takes files that cannot be read; None: the first of them is an error.
        loaded: the encoder, where it is in memory already.

    Raises:
        InputError: there is an index already, another process writes it, or a source cannot be
            used.
        ModelError: the encoder cannot be loaded, or LanceDB is not installed.
    """
    needs_lancedb()
    chunking = chunking or Chunking()
    if (out / "index.json").is_file():
        read_manifest(out).must_match(encoder, chunking, out)
        raise InputError(
            f"{out} is an index already.",
            fix=f"`luthier index update {out}` brings it up to date; or name another folder.",
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file.", fix="Name another folder.")
    if out.is_dir() and {p.name for p in out.iterdir()} - {"tables", _SPOOL, ".writing.lock"}:
        raise InputError(f"{out} is there already and is no index.", fix="Name another folder.")
    encoder_of = loaded or _load(encoder)
    with writing(out):
        store = Store(out)
        store.create(int(encoder_of.model.config.hidden_size))
        manifest = Manifest(
            encoder=encoder,
            dimension=int(encoder_of.model.config.hidden_size),
            chunking=chunking.to_dict(),
            sources=[str((base / source).resolve()) for source in sources],
            labels=str(labels.resolve()) if labels else None,
        )
        found = documents_in(
            sources, base, labels=read_labels(labels) if labels else (), refused=refused
        )
        writer = _Writer(out, store, manifest, encoder_of, reporter or Reporter())
        return writer.write("build", found, {}, refused or Refused())


@dataclass(frozen=True)
class Wish:
    """How somebody wants an index to be that is there already; None for as it is.

    Attributes:
        encoder, size, overlap: see `build`. Others than the index has are refused: vectors of two
            encoders cannot be compared, and passages of two lengths not be ranked together.
    """

    encoder: str | None = None
    size: int | None = None
    overlap: int | None = None

    def must_be(self, manifest: Manifest, folder: Path) -> None:
        """Refuse what the index is not.

        Raises:
            InputError: with the command that builds it anew.
        """
        held = Chunking(**manifest.chunking)
        wanted = Chunking(
            held.size if self.size is None else self.size,
            held.overlap if self.overlap is None else self.overlap,
        )
        manifest.must_match(self.encoder or manifest.encoder, wanted, folder)


def add(
    folder: Path,
    sources: Sequence[str],
    *,
    wish: Wish = Wish(),
    base: Path = Path(),
    reporter: Reporter | None = None,
    refused: Refused | None = None,
    loaded: Any = None,
) -> Written:
    """Put documents into an index; one that is there already is replaced where it changed."""
    return _change(folder, "add", sources, base, wish, reporter, refused, loaded)


def update(
    folder: Path,
    sources: Sequence[str] = (),
    *,
    wish: Wish = Wish(),
    base: Path = Path(),
    reporter: Reporter | None = None,
    refused: Refused | None = None,
    loaded: Any = None,
) -> Written:
    """Make an index what its sources are now (or other sources): new and changed documents are
    put in, and those that are gone are removed."""
    return _change(folder, "update", sources, base, wish, reporter, refused, loaded)


def remove(folder: Path, ids: Sequence[str]) -> Written:
    """Take documents out, by id.

    Raises:
        InputError: there is no such document.
    """
    needs_lancedb()
    read_manifest(folder)  # a folder that is none gets no lock
    with writing(folder):
        manifest = read_manifest(folder)
        store = Store(folder)
        store.go_back(manifest.now.tables)
        known = store.hashes()
        for name in ids:
            if name not in known:
                from luthier.errors import did_you_mean

                raise InputError(
                    f"{folder} has no document {name!r}.", fix=did_you_mean(name, known)
                )
        store.remove(ids)
        change = _named(folder, store, manifest, "remove", removed=len(set(ids)))
        return Written(change, Refused())


def restore(folder: Path, version: int, *, reopen: bool = False) -> Written:
    """Make an older version the one that is read; nothing is lost, it becomes the newest.

    Args:
        folder: of the index.
        version: its number.
        reopen: also where documents become readable for groups that may not read them now.

    Raises:
        InputError: there is no such version, or it would open documents.
    """
    Index(folder, version=version)  # says what is wrong
    with writing(folder):
        # as it is now: another writer may have closed documents a moment ago
        manifest = read_manifest(folder)
        held = next(change for change in manifest.history if change.version == version)
        opened = opened_by(folder, manifest, version)
        if opened and not reopen:
            shown = ", ".join(opened[:5]) + ", ..." * (len(opened) > 5)
            raise InputError(
                f"Version {version} is older than labels that close {len(opened)} documents to "
                f"groups which could read them then: {shown}.",
                fix="Give --reopen to open them again, or label them anew after it.",
            )
        store = Store(folder)
        store.go_back(held.tables)
        return Written(_named(folder, store, manifest, f"restore {version}"), Refused())


def _change(
    folder: Path,
    action: str,
    sources: Sequence[str],
    base: Path,
    wish: Wish,
    reporter: Reporter | None,
    refused: Refused | None,
    loaded: Any,
) -> Written:
    needs_lancedb()
    read_manifest(folder)
    wanted = [str((base / source).resolve()) for source in sources]
    with writing(folder):
        # as it is now: another writer may have ended a moment ago
        manifest = read_manifest(folder)
        wish.must_be(manifest, folder)
        labels = read_labels(Path(manifest.labels)) if manifest.labels else ()
        # ids are paths below what was indexed, so the sources are named as they were
        before = manifest.sources if action == "add" else ()
        found = documents_in(
            wanted or manifest.sources, Path("/"), before=before, labels=labels, refused=refused
        )
        store = Store(folder)
        # what a killed writer left behind is taken back first
        store.go_back(manifest.now.tables)
        known = store.hashes()
        double = _second_names(manifest.sources, known)
        if action == "update":
            sources = _outer(wanted or manifest.sources)
        else:  # what an older index has stays, so that its second names can be told apart
            sources = _outer([*manifest.sources, *wanted], kept=manifest.sources)
        manifest = manifest.model_copy(update={"sources": sources})
        writer = _Writer(folder, store, manifest, loaded, reporter or Reporter())
        sync = action == "update"
        done = writer.write(action, found, known, refused or Refused(), sync=sync)
        if double:
            done.notes.append(_told_of(double, folder, store.hashes()))
        return done


def _outer(sources: Sequence[str], kept: Sequence[str] = ()) -> list[str]:
    """The sources without those that an earlier one holds, which are read with that; but for those
    that are to be kept."""
    outer: list[str] = []
    for one in sources:
        if one in kept or not any(name_below(Path(root), Path(one)) for root in outer):
            outer.append(one)
    return list(dict.fromkeys(outer))


def _second_names(sources: Sequence[str], known: Collection[str]) -> list[str]:
    """Ids of files that an earlier source calls otherwise: in indexes of before 2026-11-27, a
    folder within an indexed one gave its documents names of its own."""
    found = []
    for place, source in enumerate(map(Path, sources)):
        earlier = [Path(one) for one in sources[:place]]
        around = [r for r in earlier if r.is_relative_to(source) or source.is_relative_to(r)]
        for name in known if around else ():
            path = name.partition("#")[0]
            file = source if source.name == path and source.is_file() else source / path
            first = next(filter(None, (name_below(root, file) for root in around)), None)
            if first and first != path and file.is_file():
                found.append(name)
    return sorted(found)


def _told_of(double: list[str], folder: Path, held: Collection[str]) -> str:
    shown = ", ".join(double[:5]) + ", ..." * (len(double) > 5)
    said = f"{len(double)} documents were held under two ids, as a folder within another was added"
    if set(double) & set(held):
        return (
            f"{said}; `luthier index update {folder}` takes the second ones out: {shown}. Labels "
            "for their first ids do not hold for these."
        )
    return f"{said}; the second ones were taken out: {shown}."


def signs_in(document: Document, chunk: Chunk) -> list[str]:
    """Why a passage may have been written to mislead a model: signs of its document, and of all
    that a model would read of it, headings included."""
    said = "\n".join([*chunk.heading, document.text[chunk.start : chunk.end]])
    return list(dict.fromkeys([*document.suspicious, *suspicions(said)]))


def _named(folder: Path, store: Store, manifest: Manifest, action: str, **counts: int) -> Change:
    """Make what the store holds now the version that is read."""
    held = store.counts()
    after = manifest.changed(
        action, store.versions, documents=held[DOCUMENTS], chunks=held[CHUNKS], **counts
    )
    write_manifest(folder, after)
    shutil.rmtree(folder / _SPOOL, ignore_errors=True)
    return after.now


def _load(name: str) -> Any:
    """The encoder for many passages: in bfloat16 where the processor computes in it at speed, which
    moves a vector by less than 0.001 of a cosine; questions are encoded in float32."""
    import torch

    from luthier.models.encoder import Encoder
    from luthier.models.machine import this_machine

    fast = this_machine().fast_bfloat16
    return Encoder.load(name, dtype=torch.bfloat16 if fast else torch.float32)


class _Writer:
    """One change of an index under way."""

    def __init__(
        self, folder: Path, store: Store, manifest: Manifest, encoder: Any, reporter: Reporter
    ) -> None:
        self.folder, self.store, self.manifest = folder, store, manifest
        self._encoder, self.reporter = encoder, reporter
        self.chunking = Chunking(**manifest.chunking)
        self.suspicious: dict[str, int] = {}

    def write(
        self,
        action: str,
        documents: Iterator[Document],
        known: dict[str, str],
        refused: Refused,
        *,
        sync: bool = False,
    ) -> Written:
        """Bring the tables to what the documents are, and name the new version."""
        counts = {"added": 0, "updated": 0, "removed": 0, "unchanged": 0}
        seen: set[str] = set()
        held: list[Document] = []
        rows: list[dict[str, Any]] = []
        total = len(known) or 1
        with self.reporter.work("indexing", total) as bar:
            for document in documents:
                seen.add(document.id)
                bar.advance()
                if known.get(document.id) == document.hash:
                    counts["unchanged"] += 1
                    continue
                counts["updated" if document.id in known else "added"] += 1
                held.append(document)
                rows += self._rows(document)
                bar.note(f"{sum(counts.values()):,} documents")
                if len(rows) >= _SLICE:
                    self._flush(held, rows, known)
                    held, rows = [], []
            self._flush(held, rows, known)
        if sync:
            # what could not be read this time is not gone
            gone = set(known) - seen if not refused.count else set()
            if gone:
                self.store.remove(gone)
                counts["removed"] = len(gone)
        if action != "build" and not (counts["added"] or counts["updated"] or counts["removed"]):
            write_manifest(self.folder, self.manifest)  # its sources may be others
            return Written(self.manifest.now, refused, changed=False)
        self.store.settle()
        change = _named(self.folder, self.store, self.manifest, action, **counts)
        return Written(change, refused, self.suspicious)

    def _rows(self, document: Document) -> list[dict[str, Any]]:
        rows = []
        for chunk in chunks_of(document, self.chunking):
            signs = signs_in(document, chunk)
            if signs:
                self.suspicious[document.id] = self.suspicious.get(document.id, 0) + 1
            rows.append(chunk_row(document, chunk.start, chunk.end, chunk.heading, signs))
        return rows

    def _flush(
        self, documents: list[Document], rows: list[dict[str, Any]], known: dict[str, str]
    ) -> None:
        if not documents:
            return
        vectors = self._vectors([row["words"] for row in rows])
        replaced = [document.id for document in documents if document.id in known]
        if replaced:
            self.store.remove(replaced)
        self.store.add(documents, rows, vectors)

    def _vectors(self, texts: list[str]) -> np.ndarray[Any, Any]:
        """Of the texts, (n, d); those that a killed writer had made already are taken up."""
        if not texts:
            return np.zeros((0, self.manifest.dimension), dtype=np.float32)
        path = self.folder / _SPOOL / f"{hash_of([self.manifest.encoder, texts])}.npy"
        if path.is_file():
            try:
                kept: np.ndarray[Any, Any] = np.load(path, allow_pickle=False)
                if kept.shape == (len(texts), self.manifest.dimension):
                    return kept
            except (OSError, ValueError):
                pass  # half written
        if self._encoder is None:
            self._encoder = _load(self.manifest.encoder)
        must_fit(self._encoder, self.manifest, self.folder)
        with self.reporter.work("encoding", len(texts)) as bar:
            vectors: np.ndarray[Any, Any] = self._encoder.encode(texts, progress=bar.advance)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, vectors)
        part.rename(path)
        return vectors
