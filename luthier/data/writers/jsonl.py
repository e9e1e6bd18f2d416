"""JSON Lines: one object a line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from luthier.data.writing import WRITERS, FileKind, Rows, json_text


def write_lines(rows: Rows, path: Path, _: Counter[str]) -> None:
    """One object a line, in UTF-8."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for values in rows():
            file.write(json_text(values) + "\n")


JSONL = FileKind("jsonl", write_lines, as_lines=True)
WRITERS.register(".jsonl")(JSONL)
WRITERS.register(".ndjson")(JSONL)
