"""What Parquet and Arrow files share: batches of columns to rows, with a cap on their unpacking.

A file of a few kilobytes can say "this text of 10 MB, a million times". So columns are read in
their dictionary form, what a row would unpack to is computed before it is unpacked, and a file
that unpacks to much more than it is itself is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from luthier.data import lines
from luthier.data.arrow_batches import BATCH
from luthier.data.plain import plain
from luthier.data.reading import Place, SourceRow
from luthier.errors import InputError

#: What a file may unpack to: this much, or so many times its own size where that is more.
MOST_BYTES, MOST_TIMES = 2**30, 200
#: Rows that any file may have; a large one has as many as it has bits.
MOST_ROWS = 4_000_000
#: What a row counts for besides its values, in bytes: rows of nothing are not free.
_ROW = 64


def most_unpacked(place: Place) -> int:
    """How many bytes the rows of a file may take together."""
    return max(MOST_BYTES, MOST_TIMES * place.path.stat().st_size)


def rows_of(batches: Iterable[Any], place: Place) -> Iterator[SourceRow]:
    """The rows of Arrow record batches; nulls and NaN are None.

    Raises:
        InputError: the rows take more than `most_unpacked`. A row that takes more than
            `lines.LONGEST` bytes is refused.
    """
    most, unpacked, number = most_unpacked(place), 0.0, 0
    for batch in _pieces(batches, place):
        sizes = np.full(batch.num_rows, _ROW, dtype=np.float64)
        for column in batch.columns:
            sizes += byte_sizes(column)
        columns = list(zip(batch.schema.names, batch.columns, strict=True))
        for index, size in enumerate(sizes.tolist()):
            number += 1
            where = f"{place.shown} row {number}"
            unpacked += size
            if unpacked > most:
                raise bomb(place)
            if size > lines.LONGEST:
                problem = f"{where} is longer than {lines.shown_size(lines.LONGEST)}."
                place.refuse(where, InputError(problem, fix="Cut it into several rows."))
                continue
            yield SourceRow({name: plain(column[index].as_py()) for name, column in columns}, where)


def _pieces(batches: Iterable[Any], place: Place) -> Iterator[Any]:
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        check_row_count(rows, place)
        for start in range(0, batch.num_rows, BATCH):
            yield batch.slice(start, BATCH)


def check_row_count(rows: int, place: Place) -> None:
    """Refuse a file with more rows than its bytes can say anything about."""
    if rows > max(MOST_ROWS, 8 * place.path.stat().st_size):
        raise bomb(place)


def bomb(place: Place) -> InputError:
    """The error for a file that unpacks to far more than it is."""
    return InputError(
        f"{place.shown} has {place.path.stat().st_size:,} bytes and unpacks to more than "
        f"{most_unpacked(place):,}: it may be made to fill a machine's memory.",
        fix="If it is yours, write it as JSON Lines or in several files.",
    )


def byte_sizes(array: Any) -> Any:
    """About how many bytes each value of an Arrow array takes when it is unpacked; shape (n,).

    Nothing is unpacked to tell.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, count = array.type, len(array)
    if pa.types.is_dictionary(kind):
        # the null at the end is what -1 finds
        each = np.append(byte_sizes(array.dictionary), 0.0)
        return each[pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False).astype(int)]
    if pa.types.is_struct(kind):
        return sum((byte_sizes(field) for field in array.flatten()), np.full(count, 8.0))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        ends = array.offsets.to_numpy(zero_copy_only=False)
        items = (
            pa.StructArray.from_arrays([array.keys, array.items], ["k", "v"])
            if (pa.types.is_map(kind))
            else array.values
        )
        within = np.concatenate([[0.0], np.cumsum(byte_sizes(items))])
        return within[ends[1:]] - within[ends[:-1]] + 8.0
    if pa.types.is_fixed_size_list(kind):
        inner = byte_sizes(array.flatten())
        if array.null_count:  # flatten leaves the nulls out
            return np.full(
                count, inner.sum() + 8.0 if count == 1 else inner.mean() * kind.list_size
            )
        return inner.reshape(count, -1).sum(axis=1) + 8.0
    try:
        return pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False) + 8.0
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return np.full(count, 16.0)
