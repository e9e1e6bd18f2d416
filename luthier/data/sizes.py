"""How large a source is, before it is read: what progress is measured by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Text that these hold is some times larger than the file.
_PACKED = {".parquet": 4, ".xlsx": 6}
_BLOCK = 1 << 22


def files_of(source: str, base: Path) -> list[Path]:
    """The files of a source, sorted; none for a hub's, or where nothing is there."""
    path = base / Path(source).expanduser()
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    return [path] if path.is_file() else []


def bytes_of(source: str, base: Path) -> int:
    """About how many bytes of text a source holds.

    Raises:
        OSError: a file cannot be looked at.
    """
    return sum(
        file.stat().st_size * _PACKED.get(file.suffix.lower(), 1) for file in files_of(source, base)
    )


def rows_of(source: str, base: Path) -> int:
    """About how many rows a source has: of a table by its own account, else its lines; at least 1.

    Raises:
        OSError: a file cannot be read.
    """
    return max(1, sum(map(_rows, files_of(source, base))))


def _rows(file: Path) -> int:
    if file.suffix.lower() == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            return int(pyarrow.parquet.read_metadata(file).num_rows)
        except (pyarrow.ArrowException, OSError):
            return 0  # reading it will say what is wrong
    lines = 0
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            lines += block.count(b"\n")
    return lines


def characters(value: Any) -> int:
    """How long all texts in a value are together, one character for any other value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(characters, value.values()))
    return sum(map(characters, value)) if isinstance(value, list) else 1
