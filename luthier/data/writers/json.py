"""One JSON document: a list of objects, one a line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from luthier.data.writing import WRITERS, FileKind, Rows, json_text


def write_list(rows: Rows, path: Path, _: Counter[str]) -> None:
    """A list with one object a line, in UTF-8."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for number, values in enumerate(rows()):
            file.write((",\n" if number else "\n") + json_text(values))
        file.write("\n]\n")


WRITERS.register(".json")(FileKind("json", write_list))
