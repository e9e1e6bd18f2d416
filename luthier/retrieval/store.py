"""The tables of an index, on LanceDB: passages with vectors and words, and documents with texts.

LanceDB keeps every version of a table; nothing here relies on the newest one.
"""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from luthier.retrieval.documents import Document
from luthier.retrieval.manifest import plain
from luthier.retrieval.passages import Passage, Scope
from luthier.retrieval.places import Place

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

CHUNKS, DOCUMENTS = "chunks", "documents"
#: Who may read what has no labels.
EVERYBODY = "*"
_FIRST, _LAST = datetime.date.min.toordinal(), datetime.date.max.toordinal()
#: Ids in one condition.
_AT_ONCE = 500
#: The index of words, by the name that LanceDB gives it.
_WORDS = "words_idx"
#: The share of passages that may be missing from it, the most of them, and the files that a table
#: may lie in, before both are put in order. Every question reads what is missing: 1,000 passages
#: took it from 19 to 81 ms on an old processor (docs/log.md).
_LOOSE, _MOST_LOOSE, _FILES = 0.05, 1000, 20
#: The share of a table's rows that may be removed ones, which every search passes over.
_GONE = 0.2
_COLUMNS = ["document", "start", "end", "text", "heading", "source", "metadata", "suspicious"]


class Store:
    """Both tables of one index.

    Args:
        place: of the index.
        versions: of the tables that are read; None for the newest, to write.
    """

    def __init__(self, place: Place, versions: dict[str, int] | None = None) -> None:
        import lancedb

        logging.getLogger("lance").setLevel(logging.ERROR)
        self._db = lancedb.connect(place.tables, storage_options=place.options)
        self._tables: dict[str, Any] = {}
        names = set(self._db.list_tables().tables)
        for name in (CHUNKS, DOCUMENTS):
            if name in names:
                self._tables[name] = table = self._db.open_table(name)
                if versions:
                    table.checkout(versions[name])

    def create(self, dimension: int) -> None:
        """Empty tables."""
        from lancedb.index import FTS

        for name, schema in ((CHUNKS, _chunk_schema(dimension)), (DOCUMENTS, _document_schema())):
            if name in self._tables:  # of a build that was killed
                self._db.drop_table(name)
            self._tables[name] = self._db.create_table(name, schema=schema)
        self._tables[CHUNKS].create_index(
            "words",
            config=FTS(
                stem=True,
                remove_stop_words=True,
                lower_case=True,
                ascii_folding=True,
                with_position=False,
            ),
        )

    @property
    def versions(self) -> dict[str, int]:
        """Of the tables, as they are now."""
        return {name: int(table.version) for name, table in self._tables.items()}

    def go_back(self, versions: dict[str, int]) -> None:
        """Make other versions the newest; the versions between stay readable."""
        for name, version in versions.items():
            table = self._tables[name]
            table.checkout_latest()
            if int(table.version) != version:
                table.checkout(version)
                table.restore()

    def counts(self) -> dict[str, int]:
        """Rows of both tables."""
        return {name: int(table.count_rows()) for name, table in self._tables.items()}

    # ---- writing -------------------------------------------------------------------------------

    def add(
        self, documents: Sequence[Document], passages: Sequence[dict[str, Any]], vectors: Any
    ) -> None:
        """Documents that are not there yet, and their passages with vectors (n, d)."""
        import pyarrow as pa

        schema = self._tables[CHUNKS].schema
        flat = pa.array(vectors.reshape(-1), pa.float32())
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        table = pa.Table.from_pylist(
            list(passages), schema.remove(schema.get_field_index("vector"))
        )
        self._tables[CHUNKS].add(table.append_column("vector", column))
        rows = [_document_row(document) for document in documents]
        self._tables[DOCUMENTS].add(pa.Table.from_pylist(rows, _document_schema()))

    def remove(self, ids: Collection[str]) -> None:
        """Documents and their passages."""
        for name, column in ((CHUNKS, "document"), (DOCUMENTS, "id")):
            for condition in _one_of(column, ids):
                self._tables[name].delete(condition)

    def settle(self) -> None:
        """Put new rows into the index of words, small files together, and removed rows out of
        them, once there are many; keep every version.

        All of it rewrites what is there, which for a small change would be most of the work.
        Rows that are not in the index of words yet are found all the same: they are read.
        """
        for name, table in self._tables.items():
            loose = 0
            if name == CHUNKS and (held := table.index_stats(_WORDS)):
                loose = held.num_unindexed_rows
            files = table.stats()["fragment_stats"]
            there = files["num_fragments"] * files["lengths"]["mean"]
            rows = table.count_rows()
            allowed = min(_LOOSE * rows, _MOST_LOOSE)
            gone = there - rows
            if loose > allowed or files["num_fragments"] > _FILES or gone > _GONE * there:
                table.optimize(cleanup_older_than=datetime.timedelta(days=36_500))

    def vectors_of(self, ids: Collection[str]) -> dict[str, np.ndarray[Any, Any]]:
        """Vectors (d,) of the passages of documents, by the words that were encoded."""
        table = self._tables[CHUNKS]
        found: dict[str, np.ndarray[Any, Any]] = {}
        for condition in _one_of("document", ids):
            query = table.search().where(condition).select(["words", "vector"])
            held = query.limit(table.count_rows() + 1).to_arrow()
            vectors = held["vector"].combine_chunks()
            numbers = vectors.flatten().to_numpy().reshape(len(held), -1)
            found.update(zip(held["words"].to_pylist(), numbers, strict=True))
        return found

    # ---- reading -------------------------------------------------------------------------------

    def hashes(self) -> dict[str, str]:
        """Content hash of every document, by id."""
        held = self._columns(["id", "hash"])
        return dict(zip(held["id"].to_pylist(), held["hash"].to_pylist(), strict=True))

    def closed(self) -> int:
        """How many documents are read by some groups alone."""
        return sum(
            EVERYBODY not in groups for groups in self._columns(["access"])["access"].to_pylist()
        )

    def listed(self) -> list[dict[str, Any]]:
        """Every document without its text, by id."""
        columns = [field.name for field in _document_schema() if field.name != "text"]
        held = self._columns(columns).to_pylist()
        return sorted((_shown(row) for row in held), key=lambda row: str(row["id"]))

    def _columns(self, names: list[str]) -> pa.Table:
        """Columns of all documents."""
        table = self._tables[DOCUMENTS]
        return table.search().select(names).limit(table.count_rows() + 1).to_arrow()

    def labels(self) -> dict[str, frozenset[str]]:
        """The groups that may read each document, by id; none for everybody."""
        held = self._columns(["id", "access"])
        groups = (frozenset(names) - {EVERYBODY} for names in held["access"].to_pylist())
        return dict(zip(held["id"].to_pylist(), groups, strict=True))

    def text_of(self, document: str, scope: Scope) -> str | None:
        """A document's text, where the scope may read it."""
        condition = f"id = {_quoted(document)} AND {condition_of(scope)}"
        rows = self._tables[DOCUMENTS].search().where(condition).select(["text"]).limit(1).to_list()
        return str(rows[0]["text"]) if rows else None

    def by_words(
        self, question: str, k: int, scope: Scope, closed: Iterable[str] = ()
    ) -> list[Passage]:
        """The best passages by BM25; none of the documents in `closed`."""
        if not question.strip():
            return []
        query = self._tables[CHUNKS].search(_match(question), query_type="fts")
        query = query.where(condition_of(scope, closed), prefilter=True)
        found = query.select([*_COLUMNS, "_score"])
        return [_passage(row, float(row["_score"])) for row in found.limit(k).to_list()]

    def by_vector(
        self, vector: np.ndarray[Any, Any], k: int, scope: Scope, closed: Iterable[str] = ()
    ) -> list[Passage]:
        """The passages of the highest cosine; all are looked at but those in `closed`."""
        query = self._tables[CHUNKS].search(vector, vector_column_name="vector")
        condition = condition_of(scope, closed)
        query = query.distance_type("cosine").where(condition, prefilter=True)
        found = query.select([*_COLUMNS, "_distance"]).limit(k).to_list()
        return [_passage(row, 1 - float(row["_distance"])) for row in found]


def _match(question: str) -> Any:
    """The words of a question, any of them; none of it is taken for a query language."""
    from lancedb import query

    make: Any = query.MatchQuery
    return make(question, "words")


def _readable(scope: Scope) -> str:
    groups = ", ".join(_quoted(name) for name in sorted({EVERYBODY, *scope.groups}))
    return f"array_has_any(access, make_array({groups}))"


def condition_of(scope: Scope, closed: Iterable[str] = ()) -> str:
    """A scope as a condition on the rows of either table; with `closed`, of that of passages."""
    day = (scope.on or datetime.date.today()).toordinal()
    parts = [
        _readable(scope),
        f"valid_from <= {day}",
        f"valid_to >= {day}",
    ]
    parts += [f"array_has(tags, {_quoted(f'{k}={v}')})" for k, v in sorted(scope.where.items())]
    if scope.quarantine:
        parts.append("NOT flagged")
    if listed := ", ".join(_quoted(name) for name in sorted(closed)):
        parts.append(f"document NOT IN ({listed})")
    return " AND ".join(parts)


def chunk_row(
    document: Document, start: int, end: int, heading: Sequence[str], suspicious: Sequence[str]
) -> dict[str, Any]:
    """A passage as a row, but for its vector."""
    text = document.text[start:end]
    title = str(document.metadata.get("title") or "")
    above = [title] if title and title not in heading else []
    return {
        "document": document.id,
        "start": start,
        "end": end,
        "text": text,
        "words": "\n".join([*above, *heading, text]),
        "heading": list(heading),
        "suspicious": list(suspicious),
        "flagged": bool(suspicious),
        **_common(document),
    }


def _document_row(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "hash": document.hash,
        "text": document.text,
        "suspicious": list(document.suspicious),
        "flagged": bool(document.suspicious),
        **_common(document),
    }


def _common(document: Document) -> dict[str, Any]:
    metadata = plain(dict(document.metadata))
    return {
        "source": document.source,
        "metadata": json.dumps(metadata, ensure_ascii=False),
        "access": list(document.access) or [EVERYBODY],
        "tags": [f"{key}={value}" for key, value in metadata.items()],
        "valid_from": document.valid_from.toordinal() if document.valid_from else _FIRST,
        "valid_to": document.valid_to.toordinal() if document.valid_to else _LAST,
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    def day(number: int, end: int) -> str | None:
        return None if number == end else datetime.date.fromordinal(number).isoformat()

    return {
        "id": row["id"],
        "source": row["source"],
        "access": [name for name in row["access"] if name != EVERYBODY],
        "valid_from": day(row["valid_from"], _FIRST),
        "valid_to": day(row["valid_to"], _LAST),
        "metadata": json.loads(row["metadata"]),
        "suspicious": list(row["suspicious"] or ()),
        "hash": row["hash"],
    }


def _passage(row: dict[str, Any], score: float) -> Passage:
    return Passage(
        document=row["document"],
        start=int(row["start"]),
        end=int(row["end"]),
        text=row["text"],
        score=score,
        heading=tuple(row["heading"] or ()),
        source=row["source"],
        metadata=json.loads(row["metadata"]),
        suspicious=tuple(row["suspicious"] or ()),
    )


def _one_of(column: str, ids: Collection[str]) -> Iterator[str]:
    """Conditions that together hold for the rows of some ids."""
    names = sorted(set(ids))
    for start in range(0, len(names), _AT_ONCE):
        listed = ", ".join(_quoted(name) for name in names[start : start + _AT_ONCE])
        yield f"{column} IN ({listed})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _common_fields() -> list[tuple[str, pa.DataType]]:
    import pyarrow as pa

    return [
        ("source", pa.string()),
        ("metadata", pa.string()),
        ("access", pa.list_(pa.string())),
        ("tags", pa.list_(pa.string())),
        ("valid_from", pa.int32()),
        ("valid_to", pa.int32()),
        ("suspicious", pa.list_(pa.string())),
        ("flagged", pa.bool_()),
    ]


def _chunk_schema(dimension: int) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("document", pa.string()),
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("text", pa.string()),
            ("words", pa.string()),
            ("heading", pa.list_(pa.string())),
            *_common_fields(),
            ("vector", pa.list_(pa.float32(), dimension)),
        ]
    )


def _document_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [("id", pa.string()), ("hash", pa.string()), ("text", pa.string()), *_common_fields()]
    )
