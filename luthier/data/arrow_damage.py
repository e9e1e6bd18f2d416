"""Whether a Parquet or Arrow file can be read, tried in a process of its own.

On some damaged files the library does not raise an error: it ends the process. So a file is gone
through once in another one, which may end.
"""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from luthier.data.reading import Place
from luthier.errors import InputError

#: Longest that is waited, in seconds: a little, and more for a large file.
_SECONDS, _SECONDS_A_BYTE = 60, 1 / 2**20


def check_undamaged(place: Place, kind: str) -> None:
    """Refuse a file on which the library would end this process, or hang.

    Errors that the library raises are left to the reader, which says them better.

    Raises:
        InputError: it ends the process, or takes longer than a minute and a second a MB.
    """
    stat = place.path.stat()
    if not _survives(place.path.absolute(), kind, stat.st_size, stat.st_mtime_ns):
        raise InputError(
            f"{place.shown} cannot be read as {kind}: it is damaged.",
            fix="Check that it was copied whole and that its ending is right.",
        )


@lru_cache(maxsize=256)
def _survives(path: Path, kind: str, size: int, _changed: int) -> bool:
    # not `-m`: a module of the folder one works in could be taken for a library
    command = [sys.executable, "-I", str(Path(__file__)), kind, str(path)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS + size * _SECONDS_A_BYTE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode >= 0


def _go_through(kind: str, path: str) -> None:
    """Read all of a file as the readers do, and keep nothing."""
    import pyarrow
    import pyarrow.parquet

    if kind == "Parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema
            columns = [schema.column(number) for number in range(len(schema))]
            texts = [one.path for one in columns if one.physical_type == "BYTE_ARRAY"]
            metadata = file.metadata
            for group in range(metadata.num_row_groups):
                for column in range(metadata.row_group(group).num_columns):
                    metadata.row_group(group).column(column).total_uncompressed_size  # noqa: B018
        with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(batch_size=1024, use_threads=False):
                batch.validate(full=True)
        return
    with pyarrow.OSFile(path) as source:
        stored = source.read(6) == b"ARROW1"
        source.seek(0)
        opened = pyarrow.ipc.open_file(source) if stored else pyarrow.ipc.open_stream(source)
        if stored:
            for number in range(opened.num_record_batches):
                opened.get_batch(number).validate(full=True)
        else:
            for batch in opened:
                batch.validate(full=True)


if __name__ == "__main__":
    _go_through(*sys.argv[1:])
