"""Parquet and Arrow files batch by batch; as a program, all of one, to see whether it can be read.

It imports nothing of this package: the process that tries (`arrow_damage`) needs nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

#: Rows of a batch, and where texts inside lists cannot be read in their dictionary form.
BATCH, FEW = 1024, 16
#: Address space of the process that tries, and its exit code where that is too little.
_SPACE, TOO_LARGE = 8 << 30, 9


def parquet_batches(path: Any) -> Iterator[Any]:
    """The record batches of a Parquet file, texts in their dictionary form where that can be.

    In that form a text that occurs a million times takes the room of one. The library cannot give
    it for texts inside lists or structs where a column changes its dictionary, as long ones do in
    every larger file: there they are read as they are, few rows at a time.
    """
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        columns = [file.schema.column(number) for number in range(len(file.schema))]
        texts = [one for one in columns if one.physical_type == "BYTE_ARRAY"]
        groups = file.num_row_groups
    every = [one.path for one in texts]
    flat = [one.path for one in texts if one.path == one.name]
    with (
        pyarrow.parquet.ParquetFile(path, read_dictionary=every) as file,
        pyarrow.parquet.ParquetFile(path, read_dictionary=flat) as plain,
    ):
        for group in range(groups):
            # one group after another: a batch over two of them would have two dictionaries
            how = {"row_groups": [group], "use_threads": False}
            done = 0
            try:
                for batch in file.iter_batches(batch_size=BATCH, **how):
                    done += batch.num_rows
                    yield batch
                continue
            except pyarrow.ArrowNotImplementedError:
                pass
            for batch in plain.iter_batches(batch_size=FEW, **how):
                if done < batch.num_rows:
                    yield batch.slice(done)
                done = max(0, done - batch.num_rows)


def _go_through(kind: str, path: str) -> None:
    """Read all of a file as the readers do, and keep nothing."""
    import pyarrow
    import pyarrow.parquet

    if kind == "Parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            metadata = file.metadata
            for group in range(metadata.num_row_groups):
                for column in range(metadata.row_group(group).num_columns):
                    metadata.row_group(group).column(column).total_uncompressed_size  # noqa: B018
        for batch in parquet_batches(path):
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


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_SPACE, _SPACE))
    except (ImportError, ValueError, OSError):  # a system without, or a smaller limit already
        pass


if __name__ == "__main__":
    _limit_memory()
    code = 0
    try:
        _go_through(*sys.argv[1:])
    except MemoryError:  # the library's own is one
        code = TOO_LARGE
    except BaseException:
        code = 1  # the reader says it better
    # the library's threads can end a process that is being taken down; the file is read by then
    os._exit(code)
