"""Apache Parquet and Arrow: columns with types, which all rows share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.writing import WRITERS, FileKind, Rows, Values, json_text
from luthier.errors import InputError

if TYPE_CHECKING:
    import pyarrow

#: Rows of a row group, and about how many characters they may have together.
_ROWS, _CHARACTERS = 10_000, 32 * 2**20
#: Whole numbers up to here are exact as float64, and up to there as int64.
_EXACT, _LARGEST = 2**53, 2**63 - 1

#: What a column holds: a name; ("list", what its items are); ("object", keys to what they hold).
#: "text" beside anything else is "mixed".
_Held = str | tuple[str, Any]


def write_parquet(rows: Rows, path: Path, lost: Counter[str]) -> None:
    """A Parquet file in row groups of up to 10,000 rows; the rows are gone through twice.

    In a column whose values have no common type all but text is written as JSON text, and this is
    counted. Keys that an object of a column does not have are null.

    Raises:
        InputError: rows without a column.
    """
    import pyarrow.parquet

    schema, mixed = _schema(rows, lost)
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(rows, schema, mixed):
            writer.write_batch(batch)


def write_arrow(rows: Rows, path: Path, lost: Counter[str]) -> None:
    """An Arrow file (Feather version 2) in record batches; as `write_parquet`."""
    import pyarrow

    schema, mixed = _schema(rows, lost)
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, schema) as writer:
        for batch in _batches(rows, schema, mixed):
            writer.write_batch(batch)


def _batches(rows: Rows, schema: pyarrow.Schema, mixed: set[str]) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow

    def made() -> pyarrow.RecordBatch:
        return pyarrow.RecordBatch.from_pylist(held, schema=schema)

    held: list[Values] = []
    size = 0
    for values in rows():
        for name in mixed & values.keys():
            if values[name] is not None and not isinstance(values[name], str):
                values[name] = json_text(values[name])
        held.append(values)
        size += _size(values)
        if len(held) >= _ROWS or size > _CHARACTERS:
            yield made()
            held, size = [], 0
    if held:
        yield made()


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 8


def _schema(rows: Rows, lost: Counter[str]) -> tuple[pyarrow.Schema, set[str]]:
    """(the types of all columns, those that become JSON text)."""
    import pyarrow

    columns: dict[str, _Held] = {}
    for values in rows():
        for name, value in values.items():
            columns[name] = _both(columns.get(name, "null"), _held(value))
    if not columns:
        raise InputError("The rows have no columns, and a file of columns needs one.")
    mixed = {name for name, held in columns.items() if _is_mixed(held)}
    for name in sorted(mixed):
        lost[f"the types of the column {name!r}, which has no single one: it is JSON text"] += 1
    fields = [
        (name, pyarrow.string() if name in mixed else _type(held)) for name, held in columns.items()
    ]
    return pyarrow.schema(fields), mixed


def _held(value: Any) -> _Held:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int):
        size = abs(value)
        return "whole" if size <= _EXACT else "large" if size <= _LARGEST else "mixed"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        inner: _Held = "null"
        for item in value:
            inner = _both(inner, _held(item))
        return ("list", inner)
    # an object without keys is no column of Parquet's
    return ("object", {key: _held(item) for key, item in value.items()}) if value else "mixed"


def _both(one: _Held, other: _Held) -> _Held:
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    if isinstance(one, tuple) and isinstance(other, tuple) and one[0] == other[0]:
        if one[0] == "list":
            return ("list", _both(one[1], other[1]))
        keys = dict.fromkeys([*one[1], *other[1]])
        return (
            "object",
            {key: _both(one[1].get(key, "null"), other[1].get(key, "null")) for key in keys},
        )
    kinds = {one, other} if isinstance(one, str) and isinstance(other, str) else {"mixed"}
    if kinds <= {"whole", "large"}:
        return "large"
    return "number" if kinds <= {"whole", "number"} else "mixed"


def _is_mixed(held: _Held) -> bool:
    if isinstance(held, str):
        return held == "mixed"
    if held[0] == "list":
        return _is_mixed(held[1])
    return any(map(_is_mixed, held[1].values()))


def _type(held: _Held) -> pyarrow.DataType:
    import pyarrow

    if isinstance(held, str):
        return {
            "null": pyarrow.null(),
            "truth": pyarrow.bool_(),
            "whole": pyarrow.int64(),
            "large": pyarrow.int64(),
            "number": pyarrow.float64(),
            "text": pyarrow.string(),
        }[held]
    if held[0] == "list":
        return pyarrow.list_(_type(held[1]))
    return pyarrow.struct([(key, _type(inner)) for key, inner in held[1].items()])


WRITERS.register(".parquet")(FileKind("parquet", write_parquet))
ARROW = FileKind("arrow", write_arrow)
WRITERS.register(".arrow")(ARROW)
WRITERS.register(".feather")(ARROW)
