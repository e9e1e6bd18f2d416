"""Apache Parquet."""

from __future__ import annotations

from luthier.data.reading import READERS, Place, SourceRow, check_columns, without_nan
from luthier.errors import InputError


@READERS.register(".parquet")
def read_parquet(place: Place) -> list[SourceRow]:
    """Read a Parquet file; values keep their types, nulls and NaN are None.

    Raises:
        InputError: no Parquet file, damaged, two columns of one name, or no rows.
    """
    import pyarrow
    import pyarrow.parquet

    if place.path.stat().st_size == 0:
        raise InputError(f"{place.shown} is empty.", fix="Put rows into it, or name another file.")
    try:
        # ParquetFile reads this one file; read_table would also guess columns from folder names
        with pyarrow.parquet.ParquetFile(place.path) as file:
            check_columns(file.schema_arrow.names, place)
            items = file.read().to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        problem = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"{place.shown} cannot be read as Parquet: {problem}.",
            fix="Check that it was copied whole and that its ending is right.",
        ) from None
    if not items:
        raise InputError(f"{place.shown} has no rows.", fix="Name a file that has.")
    return [
        SourceRow(without_nan(values), f"{place.shown} row {number}")
        for number, values in enumerate(items, 1)
    ]
