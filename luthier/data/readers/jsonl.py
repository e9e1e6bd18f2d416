"""JSON Lines: one object a line."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.lines import text_lines
from luthier.data.reading import READERS, Place, SourceRow, parse_json
from luthier.errors import InputError


@READERS.register(".ndjson")
@READERS.register(".jsonl")
def read_jsonl(place: Place) -> Iterator[SourceRow]:
    """Read a JSON Lines file; values keep their types, blank lines are left out.

    Raises:
        InputError: an empty file, or UTF-16. A line that is not a JSON object or names a key twice
            is refused with its number.
    """
    for number, line in text_lines(place):
        if not line.strip():
            continue
        where = f"{place.shown} line {number}"
        try:
            values = parse_json(line)
        except ValueError as error:
            hint = (
                "It begins a JSON array: end the file's name in .json instead of .jsonl."
                if number == 1 and line.lstrip().startswith("[")
                else "Each line must be one whole JSON object."
            )
            place.refuse(where, InputError(f"{where}: broken JSON: {error}.", fix=hint))
            continue
        if isinstance(values, dict):
            yield SourceRow(values, where)
            continue
        problem = f"{where} holds {_kind(values)}, and a row is an object with column names."
        place.refuse(where, InputError(problem, fix='Write it as {"column": value, ...}.'))


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}
    return names.get(type(value), "a number")
