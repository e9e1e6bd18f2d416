"""Making an index and keeping it current.

Documents are compared by id and content hash: what is unchanged is left alone, what changed is
replaced, and on `update` what is gone is removed. How a change is written is `writing.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.data.refused import Refused
from luthier.errors import InputError
from luthier.progress import Reporter
from luthier.retrieval.chunks import Chunking
from luthier.retrieval.documents import NoDocumentError, Reading, documents_in, read_labels
from luthier.retrieval.index import ENCODER, Index, needs_lancedb
from luthier.retrieval.manifest import Manifest, Where, read_manifest
from luthier.retrieval.older import opened_by
from luthier.retrieval.places import LOCK, TABLES, place_at
from luthier.retrieval.sources import must_keep_names, outer, second_names, told_of
from luthier.retrieval.store import Store
from luthier.retrieval.writing import SPOOL, Writer, Written, load_for_many, name_version


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
    if place.names() - {TABLES, SPOOL, LOCK}:
        raise InputError(f"{place} is there already and is no index.", fix="Name another folder.")
    encoder_of = loaded or load_for_many(encoder)
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
        said, reading = read_labels(labels) if labels else [], Reading()
        found = documents_in(sources, base, labels=said, refused=refused, reading=reading)
        writer = Writer(place, turn, store, manifest, encoder_of, reporter or Reporter())
        done = writer.write("build", found, {}, refused or Refused(), reading=reading)
        done.notes += [*_unmatched(said, reading), *_closed(store)]
        return done


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
        store.settle()
        removed = len(set(ids))
        change = name_version(
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
        change = name_version(place, turn, store, manifest, f"restore {version}", held.documents)
        return Written(change, Refused())


def _unmatched(labels: Sequence[tuple[str, Mapping[str, Any]]], reading: Reading) -> list[str]:
    """That labels are for nothing: a pattern with a slip in it leaves documents open."""
    return [
        f"The label {pattern!r} fits no document."
        for pattern, _ in labels
        if pattern not in reading.patterns
    ]


def _closed(store: Store) -> list[str]:
    """How many documents are not for everybody, where there are any."""
    closed = store.closed()
    if not closed:
        return []
    verb = "document is" if closed == 1 else "documents are"
    return [f"{closed:,} {verb} read by some groups alone (`luthier index list`)."]


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
        labels = read_labels(Path(manifest.labels)) if manifest.labels else []
        if labels and action == "update":
            must_keep_names(wanted, manifest.sources, place)
        # ids are paths below what was indexed, so the sources are named as they were
        before = manifest.sources if action == "add" else ()
        reading = Reading()
        found = documents_in(
            wanted or manifest.sources,
            Path("/"),
            before=before,
            labels=labels,
            refused=refused,
            reading=reading,
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
        writer = Writer(place, turn, store, manifest, loaded, reporter or Reporter())
        try:
            done = writer.write(action, found, known, refused or Refused(), reading=reading)
        except NoDocumentError as error:
            if action != "update":
                raise
            raise InputError(
                f"{error.message} {place} stays as it is, and goes on answering from its "
                f"{len(known)} documents.",
                fix="If it is all gone for good: `luthier index remove` takes documents out.",
            ) from None
        if action == "update":
            done.notes += _unmatched(labels, reading)
        if done.changed:
            done.notes += _closed(store)
        if double:
            done.notes.append(told_of(double, place, store.hashes()))
        return done
