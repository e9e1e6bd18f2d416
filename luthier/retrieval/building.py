"""Making an index and keeping it current.

Documents are compared by id and content hash: what is unchanged is left alone, what changed is
replaced, and on `update` what is gone is removed. Tables are written first and named by the
manifest last, so a reader sees the old version or the new one, and so does everybody after a kill.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.refused import Refused
from luthier.errors import InputError, RunError
from luthier.files import hash_of
from luthier.progress import Reporter
from luthier.retrieval.chunks import Chunk, Chunking, chunks_of
from luthier.retrieval.documents import Document, documents_in, read_labels
from luthier.retrieval.hostile import suspicions
from luthier.retrieval.index import ENCODER, Index, needs_lancedb
from luthier.retrieval.manifest import (
    Change,
    Manifest,
    Where,
    must_fit,
    read_manifest,
    write_manifest,
)
from luthier.retrieval.older import opened_by
from luthier.retrieval.places import LOCK, TABLES, Place, Turn, place_at
from luthier.retrieval.sources import must_keep_names, outer, second_names, told_of
from luthier.retrieval.store import CHUNKS, DOCUMENTS, Store, chunk_row

#: Passages that are encoded and written at once; after a kill at most these are encoded again. So
#: many that most share their length with others, which the encoder computes without padding.
_SLICE = 4096
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
    out: Where,
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
        out: a new folder or address, or one that a killed build left.
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
    place = place_at(out)
    if place.stamp():
        read_manifest(place).must_match(encoder, chunking, place)
        raise InputError(
            f"{place} is an index already.",
            fix=f"`luthier index update {place}` brings it up to date; or name another folder.",
        )
    if place.names() - {TABLES, _SPOOL, LOCK}:
        raise InputError(f"{place} is there already and is no index.", fix="Name another folder.")
    encoder_of = loaded or _load(encoder)
    with place.writing() as turn:
        if place.stamp():
            raise InputError(f"Another process made {place} meanwhile.", fix="Update that one.")
        store = Store(place)
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
        writer = _Writer(place, turn, store, manifest, encoder_of, reporter or Reporter())
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

    def must_be(self, manifest: Manifest, folder: Where) -> None:
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
    where: Where,
    sources: Sequence[str],
    *,
    wish: Wish = Wish(),
    base: Path = Path(),
    reporter: Reporter | None = None,
    refused: Refused | None = None,
    loaded: Any = None,
) -> Written:
    """Put documents into an index; one that is there already is replaced where it changed."""
    return _change(where, "add", sources, base, wish, reporter, refused, loaded)


def update(
    where: Where,
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
    return _change(where, "update", sources, base, wish, reporter, refused, loaded)


def remove(where: Where, ids: Sequence[str]) -> Written:
    """Take documents out, by id.

    Raises:
        InputError: there is no such document.
    """
    needs_lancedb()
    place = place_at(where)
    read_manifest(place)  # a folder that is none gets no lock
    with place.writing() as turn:
        manifest = read_manifest(place)
        store = Store(place)
        store.go_back(manifest.now.tables)
        known = store.hashes()
        for name in ids:
            if name not in known:
                from luthier.errors import did_you_mean

                raise InputError(
                    f"{place} has no document {name!r}.", fix=did_you_mean(name, known)
                )
        turn.still()
        store.remove(ids)
        removed = len(set(ids))
        change = _named(
            place, turn, store, manifest, "remove", len(known) - removed, removed=removed
        )
        return Written(change, Refused())


def restore(where: Where, version: int, *, reopen: bool = False) -> Written:
    """Make an older version the one that is read; nothing is lost, it becomes the newest.

    Args:
        where: the index is.
        version: its number.
        reopen: also where documents become readable for groups that may not read them now.

    Raises:
        InputError: there is no such version, or it would open documents.
    """
    place = place_at(where)
    Index(place, version=version)  # says what is wrong
    with place.writing() as turn:
        # as it is now: another writer may have closed documents a moment ago
        manifest = read_manifest(place)
        held = next(change for change in manifest.history if change.version == version)
        opened = opened_by(place, manifest, version)
        if opened and not reopen:
            shown = ", ".join(opened[:5]) + ", ..." * (len(opened) > 5)
            raise InputError(
                f"Version {version} is older than labels that close {len(opened)} documents to "
                f"groups which could read them then: {shown}.",
                fix="Give --reopen to open them again, or label them anew after it.",
            )
        store = Store(place)
        turn.still()
        store.go_back(held.tables)
        change = _named(place, turn, store, manifest, f"restore {version}", held.documents)
        return Written(change, Refused())


def _change(
    where: Where,
    action: str,
    sources: Sequence[str],
    base: Path,
    wish: Wish,
    reporter: Reporter | None,
    refused: Refused | None,
    loaded: Any,
) -> Written:
    needs_lancedb()
    place = place_at(where)
    read_manifest(place)
    wanted = [str((base / source).resolve()) for source in sources]
    with place.writing() as turn:
        # as it is now: another writer may have ended a moment ago
        manifest = read_manifest(place)
        wish.must_be(manifest, place)
        labels = read_labels(Path(manifest.labels)) if manifest.labels else ()
        if labels and action == "update":
            must_keep_names(wanted, manifest.sources, place)
        # ids are paths below what was indexed, so the sources are named as they were
        before = manifest.sources if action == "add" else ()
        found = documents_in(
            wanted or manifest.sources, Path("/"), before=before, labels=labels, refused=refused
        )
        store = Store(place)
        # what a killed writer left behind is taken back first
        store.go_back(manifest.now.tables)
        known = store.hashes()
        double = second_names(manifest.sources, known)
        if action == "update":
            sources = outer(wanted or manifest.sources)
        else:  # what an older index has stays, so that its second names can be told apart
            sources = outer([*manifest.sources, *wanted], kept=manifest.sources)
        manifest = manifest.model_copy(update={"sources": sources})
        writer = _Writer(place, turn, store, manifest, loaded, reporter or Reporter())
        sync = action == "update"
        done = writer.write(action, found, known, refused or Refused(), sync=sync)
        if double:
            done.notes.append(told_of(double, place, store.hashes()))
        return done


def signs_in(document: Document, chunk: Chunk) -> list[str]:
    """Why a passage may have been written to mislead a model: signs of its document, and of all
    that a model would read of it, headings included."""
    said = "\n".join([*chunk.heading, document.text[chunk.start : chunk.end]])
    return list(dict.fromkeys([*document.suspicious, *suspicions(said)]))


def _named(
    place: Place,
    turn: Turn,
    store: Store,
    manifest: Manifest,
    action: str,
    documents: int,
    **counts: int,
) -> Change:
    """Make what the store holds now the version that is read, where it holds so many documents."""
    held = store.counts()
    if held[DOCUMENTS] != documents:
        raise RunError(
            f"{place} holds {held[DOCUMENTS]} documents where this writer left {documents}: "
            "another process wrote to its tables.",
            fix="Nobody sees what was written. Run it again.",
        )
    after = manifest.changed(
        action, store.versions, documents=documents, chunks=held[CHUNKS], **counts
    )
    write_manifest(turn, after)
    place.clear(_SPOOL)
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
        self,
        place: Place,
        turn: Turn,
        store: Store,
        manifest: Manifest,
        encoder: Any,
        reporter: Reporter,
    ) -> None:
        self.place, self.turn, self.store, self.manifest = place, turn, store, manifest
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
                self.turn.still()
                self.store.remove(gone)
                counts["removed"] = len(gone)
        if action != "build" and not (counts["added"] or counts["updated"] or counts["removed"]):
            write_manifest(self.turn, self.manifest)  # its sources may be others
            return Written(self.manifest.now, refused, changed=False)
        self.turn.still()
        self.store.settle()
        there = len(known) + counts["added"] - counts["removed"]
        change = _named(self.place, self.turn, self.store, self.manifest, action, there, **counts)
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
        self.turn.still()
        if replaced:
            self.store.remove(replaced)
        self.store.add(documents, rows, vectors)

    def _vectors(self, texts: list[str]) -> np.ndarray[Any, Any]:
        """Of the texts, (n, d); those that a killed writer had made already are taken up."""
        if not texts:
            return np.zeros((0, self.manifest.dimension), dtype=np.float32)
        name = f"{_SPOOL}/{hash_of([self.manifest.encoder, texts])}.npy"
        kept = self.place.read(name)
        if kept is not None:
            try:
                held: np.ndarray[Any, Any] = np.load(io.BytesIO(kept), allow_pickle=False)
                if held.shape == (len(texts), self.manifest.dimension):
                    return held
            except (OSError, ValueError, EOFError):
                pass  # of another version
        if self._encoder is None:
            self._encoder = _load(self.manifest.encoder)
        must_fit(self._encoder, self.manifest, self.place)
        with self.reporter.work("encoding", len(texts)) as bar:
            vectors: np.ndarray[Any, Any] = self._encoder.encode(texts, progress=bar.advance)[0]
        file = io.BytesIO()
        np.save(file, vectors)
        self.place.write(name, file.getvalue())
        return vectors
