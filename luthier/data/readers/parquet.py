"""Apache Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthier.data.arrow_batches import parquet_batches
from luthier.data.arrow_damage import check_undamaged
from luthier.data.arrow_rows import bomb, check_row_count, most_unpacked, rows_of
from luthier.data.reading import READERS, Place, SourceRow, check_columns
from luthier.errors import InputError


@READERS.register(".parquet")
def read_parquet(place: Place) -> Iterator[SourceRow]:
    """Read a Parquet file by batches; values keep their types, nulls and NaN are None.

    Raises:
        InputError: no Parquet file, damaged, two columns of one name, no rows, or one that unpacks
            to many times its size.
    """
    import pyarrow
    import pyarrow.parquet

    if place.path.stat().st_size == 0:
        raise InputError(f"{place.shown} is empty.", fix="Put rows into it, or name another file.")
    check_undamaged(place, "Parquet")
    try:
        # ParquetFile reads this one file; read_table would also guess columns from folder names
        with pyarrow.parquet.ParquetFile(place.path) as file:
            check_columns(file.schema_arrow.names, place)
            _check_sizes(file.metadata, place)
        yield from rows_of(parquet_batches(place.path), place)
    except (
        pyarrow.ArrowException,
        OSError,
        ValueError,
        MemoryError,
        OverflowError,
        IndexError,
    ) as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"{place.shown} cannot be read as Parquet: {problem}.",
            fix="Check that it was copied whole and that its ending is right.",
        ) from None


def _check_sizes(metadata: Any, place: Place) -> None:
    """Refuse a file that says of itself that it unpacks to far more than it is."""
    most = most_unpacked(place)
    if metadata.num_rows == 0:
        raise InputError(f"{place.shown} has no rows.", fix="Name a file that has.")
    stored = sum(
        max(metadata.row_group(group).column(column).total_uncompressed_size, 0)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.row_group(group).num_columns)
    )
    if stored > most:
        raise bomb(place)
    check_row_count(metadata.num_rows, place)
