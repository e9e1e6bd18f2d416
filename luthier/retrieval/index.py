"""An index of documents that people and models can search: open it, and ask.

    index = Index.open("handbook.index")
    index.search("How long is the notice period?", k=3, scope=Scope(groups=frozenset({"hr"})))

A reader sees one version of the index from when it opened it until it calls `refresh`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from luthier.errors import ModelError
from luthier.retrieval.fusion import combine, fuse, with_sentences
from luthier.retrieval.manifest import Manifest, Where, must_fit, read_manifest
from luthier.retrieval.older import labels_since
from luthier.retrieval.passages import OPEN, Mode, Passage, Scope
from luthier.retrieval.places import Stamp, place_at

if TYPE_CHECKING:
    import numpy as np

    from luthier.retrieval.reranking import Sentences
    from luthier.retrieval.store import Store

#: Encoder where none is named.
ENCODER = "all-minilm-l6-v2"
#: Passages that each way of searching gives to the fusion, and that a reranker looks at.
_DEEP = 50
_RERANKED = 20


def needs_lancedb() -> None:
    """Say how to get it, where it is missing.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import lancedb  # noqa: F401
    except ImportError:
        raise ModelError(
            "Retrieval needs LanceDB, which is not installed.",
            fix="Install it: pip install 'luthier[rag]'",
        ) from None


class Index:
    """One version of an index (a `Retriever`).

    Args:
        where: written by `luthier index build`: a folder, or an address such as s3://bucket/path.
        encoder: encodes questions; loaded when it is first needed where None is given.
        version: an older one, by its number; None for the newest.

    Raises:
        InputError: it is no index, or has no such version.
        ModelError: LanceDB is not installed.
    """

    def __init__(self, where: Where, encoder: Any = None, version: int | None = None) -> None:
        needs_lancedb()
        self.place = place_at(where)
        self._encoder = encoder
        self._sentences: Sentences | None = None
        self._wanted = version
        self.manifest: Manifest
        self._seen: Stamp
        self._store: Store
        self._open()

    @classmethod
    def open(cls, where: Where, encoder: Any = None, version: int | None = None) -> Index:
        """An index, to search in."""
        return cls(where, encoder, version)

    def _open(self) -> None:
        from luthier.errors import InputError
        from luthier.retrieval.store import Store

        stamp = self.place.stamp()  # before it is read: a later one is seen next time
        manifest = read_manifest(self.place)
        held = {change.version: change for change in manifest.history}
        number = manifest.now.version if self._wanted is None else self._wanted
        if number not in held:
            raise InputError(
                f"{self.place} has no version {number}.",
                fix=f"See `luthier index history {self.place}`.",
            )
        with self.place.told():
            store = Store(self.place, held[number].tables)
        # together and last: where opening fails, the version of before is whole
        self.manifest, self.version, self._store = manifest, number, store
        self._seen = stamp
        self._labels: dict[str, frozenset[str]] | None = None

    def refresh(self) -> bool:
        """Read the newest version, if there is a newer one; gives whether there was.

        Raises:
            InputError: there is no index any more, or it was made anew with another encoder.
        """
        from luthier.errors import InputError

        # not by the version: an index that was deleted and built anew begins at 1 again
        if self._wanted is not None or self.place.stamp() == self._seen:
            return False
        before, held = self.manifest.now, read_manifest(self.place)
        if held.encoder != self.manifest.encoder:
            raise InputError(
                f"{self.place} was made anew with the encoder {held.encoder}; it was opened with "
                f"{self.manifest.encoder}.",
                fix="Open it again.",
            )
        self._open()
        return self.manifest.now != before

    @property
    def encoder(self) -> Any:
        """The encoder that made the vectors."""
        if self._encoder is None:
            from luthier.models.encoder import Encoder

            self._encoder = Encoder.load(self.manifest.encoder)
            must_fit(self._encoder, self.manifest, self.place)
        return self._encoder

    def search(
        self,
        question: str,
        k: int = 5,
        *,
        mode: Mode = "hybrid",
        scope: Scope = OPEN,
        rerank: bool = False,
    ) -> list[Passage]:
        """See `Retriever`. The score is a cosine for "vectors", BM25 for "bm25", and what
        `fusion.py` makes of both for the others."""
        return self.search_many([question], k, mode=mode, scope=scope, rerank=rerank)[0]

    def search_many(
        self,
        questions: Sequence[str],
        k: int = 5,
        *,
        mode: Mode = "hybrid",
        scope: Scope = OPEN,
        rerank: bool = False,
    ) -> list[list[Passage]]:
        """See `Retriever`."""
        vectors, again = None, self._by_sentences() if rerank else None
        if mode != "bm25" or rerank:
            vectors = self.encoder.encode(list(questions))[0]
        return [
            self._search(
                question, None if vectors is None else vectors[number], k, mode, scope, again
            )
            for number, question in enumerate(questions)
        ]

    def _search(
        self,
        question: str,
        vector: np.ndarray[Any, Any] | None,
        k: int,
        mode: Mode,
        scope: Scope,
        again: Sentences | None,
    ) -> list[Passage]:
        deep = max(k, _DEEP)
        near = []
        with self.place.told():
            closed = self._closed(scope)
            words = [] if mode == "vectors" else self._store.by_words(question, deep, scope, closed)
            if mode != "bm25":
                assert vector is not None
                near = self._store.by_vector(vector, deep, scope, closed)
        if mode == "hybrid":
            found = combine(words, near)
        else:
            found = fuse([words, near]) if mode == "rrf" else words or near
        if again and vector is not None:
            first = found[: max(k, _RERANKED)]
            found = with_sentences(
                first, again.nearest(vector, first), divided=mode in ("bm25", "rrf")
            )
        return found[:k]

    def _by_sentences(self) -> Sentences:
        """What looks at passages again, and remembers their sentences for the next question."""
        if self._sentences is None:
            from luthier.retrieval.reranking import Sentences

            self._sentences = Sentences(self.encoder)
        return self._sentences

    def text_of(self, document: str, *, scope: Scope = OPEN) -> str | None:
        """See `Retriever`."""
        with self.place.told():
            return None if document in self._closed(scope) else self._store.text_of(document, scope)

    def _closed(self, scope: Scope) -> set[str]:
        """Of an older version, the documents that were closed to the scope since: going back must
        not open them."""
        if self.version == self.manifest.now.version:
            return set()
        if self._labels is None:
            self._labels = labels_since(self.place, self.manifest, self.version)
        return {name for name, own in self._labels.items() if own and not own & scope.groups}

    def ids(self) -> set[str]:
        """The ids of all documents."""
        with self.place.told():
            return set(self._store.hashes())

    def documents(self, groups: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Every document without its text, whoever may read it: for who runs the index.

        Args:
            groups: leave the metadata out (it may quote the text) of documents that none of these
                groups may read; None shows all.
        """
        with self.place.told():
            held = self._store.listed()
        if groups is None:
            return held
        return [
            one
            if not one["access"] or set(one["access"]) & set(groups)
            else {**one, "metadata": {}}
            for one in held
        ]

    def history(self) -> list[Mapping[str, Any]]:
        """Every version, the oldest first."""
        return [change.model_dump(exclude={"tables"}) for change in self.manifest.history]
