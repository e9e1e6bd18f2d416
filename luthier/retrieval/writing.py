"""Writing one change of an index: documents into rows, rows into vectors, tables into a version.

Tables are written first and named by the manifest last, so a reader sees the old version or the
new one, and so does everybody after a kill.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luthier.data.refused import Refused
from luthier.errors import RunError
from luthier.files import hash_of
from luthier.progress import Reporter
from luthier.retrieval.chunks import Chunk, Chunking, chunks_of
from luthier.retrieval.documents import Document, Reading
from luthier.retrieval.hostile import suspicions
from luthier.retrieval.manifest import Change, Manifest, must_fit, write_manifest
from luthier.retrieval.places import Place, Turn
from luthier.retrieval.store import CHUNKS, DOCUMENTS, Store, chunk_row

#: Passages that are encoded and written at once; after a kill at most these are encoded again. So
#: many that most share their length with others, which the encoder computes without padding.
_SLICE = 4096
#: Vectors of a slice, until its version is named.
SPOOL = ".vectors"


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


def signs_in(document: Document, chunk: Chunk) -> list[str]:
    """Why a passage may have been written to mislead a model: signs of its document, and of all
    that a model would read of it, headings included."""
    said = "\n".join([*chunk.heading, document.text[chunk.start : chunk.end]])
    return list(dict.fromkeys([*document.suspicious, *suspicions(said)]))


def name_version(
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
    place.clear(SPOOL)
    return after.now


def load_for_many(name: str) -> Any:
    """The encoder for many passages: in bfloat16 where the processor computes in it at speed, which
    moves a vector by less than 0.001 of a cosine; questions are encoded in float32."""
    import torch

    from luthier.models.encoder import Encoder
    from luthier.models.machine import this_machine

    fast = this_machine().fast_bfloat16
    return Encoder.load(name, dtype=torch.bfloat16 if fast else torch.float32)


class Writer:
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
        reading: Reading,
    ) -> Written:
        """Bring the tables to what the documents are, and name the new version.

        Args:
            action: "build", "add" or "update", which also removes what is gone.
            documents: all there are of the sources.
            known: hash of each document that the index has.
            refused: what could not be read.
            reading: which files were read, once `documents` is at its end.
        """
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
        # what could not be read this time is not gone; of a table that is added again, rows may be
        missing = set(known) - seen
        if action == "update":
            gone = {name for name in missing if not reading.spares(name)}
        else:
            gone = {name for name in missing if reading.lacks(name)}
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
        change = name_version(
            self.place, self.turn, self.store, self.manifest, action, there, **counts
        )
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
        replaced = [document.id for document in documents if document.id in known]
        vectors = self._vectors([row["words"] for row in rows], self.store.vectors_of(replaced))
        self.turn.still()
        if replaced:
            self.store.remove(replaced)
        self.store.add(documents, rows, vectors)

    def _vectors(
        self, texts: list[str], held: Mapping[str, np.ndarray[Any, Any]]
    ) -> np.ndarray[Any, Any]:
        """Of the texts, (n, d).

        Args:
            texts: what is encoded of each passage.
            held: vectors that the index has, by such a text: an edited document is encoded only
                where it was edited.
        """
        vectors = np.zeros((len(texts), self.manifest.dimension), dtype=np.float32)
        new = [place for place, text in enumerate(texts) if text not in held]
        for place, text in enumerate(texts):
            if text in held:
                vectors[place] = held[text]
        if new:
            vectors[new] = self._encoded([texts[place] for place in new])
        return vectors

    def _encoded(self, texts: list[str]) -> np.ndarray[Any, Any]:
        """Of the texts, (n, d); those that a killed writer had made already are taken up."""
        name = f"{SPOOL}/{hash_of([self.manifest.encoder, texts])}.npy"
        kept = self.place.read(name)
        if kept is not None:
            try:
                held: np.ndarray[Any, Any] = np.load(io.BytesIO(kept), allow_pickle=False)
                if held.shape == (len(texts), self.manifest.dimension):
                    return held
            except (OSError, ValueError, EOFError):
                pass  # of another version
        if self._encoder is None:
            self._encoder = load_for_many(self.manifest.encoder)
        must_fit(self._encoder, self.manifest, self.place)
        with self.reporter.work("encoding", len(texts)) as bar:
            vectors: np.ndarray[Any, Any] = self._encoder.encode(texts, progress=bar.advance)[0]
        file = io.BytesIO()
        np.save(file, vectors)
        self.place.write(name, file.getvalue())
        return vectors
