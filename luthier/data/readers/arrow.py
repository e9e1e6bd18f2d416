"""Arrow files, in the file format (Feather version 2) and in the stream format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthier.data.arrow_damage import check_undamaged
from luthier.data.arrow_rows import rows_of
from luthier.data.reading import READERS, Place, SourceRow, check_columns
from luthier.errors import InputError


@READERS.register(".arrow")
@READERS.register(".feather")
def read_arrow(place: Place) -> Iterator[SourceRow]:
    """Read an Arrow file by its record batches; values keep their types, nulls and NaN are None.

    Raises:
        InputError: no Arrow file, damaged, two columns of one name, no rows, or one that unpacks
            to many times its size.
    """
    import pyarrow

    with place.path.open("rb") as file:
        magic = file.read(6)
    if not magic:
        raise InputError(f"{place.shown} is empty.", fix="Put rows into it, or name another file.")
    if magic.startswith(b"FEA1"):
        raise InputError(
            f"{place.shown} is Feather version 1.",
            fix="Write it again with a newer library, as Feather version 2 or Parquet.",
        )
    check_undamaged(place, "Arrow")
    try:
        with pyarrow.OSFile(str(place.path)) as source:
            stored = magic == b"ARROW1"
            opened = pyarrow.ipc.open_file(source) if stored else pyarrow.ipc.open_stream(source)
            check_columns(opened.schema.names, place)
            yield from rows_of(_batches(opened, stored), place)
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
            f"{place.shown} cannot be read as Arrow: {problem}.",
            fix="Check that it was copied whole and that its ending is right.",
        ) from None


def _batches(opened: Any, stored: bool) -> Iterator[Any]:
    batches = map(opened.get_batch, range(opened.num_record_batches)) if stored else opened
    for batch in batches:
        batch.validate(full=True)  # offsets of a damaged file may point anywhere
        yield batch
