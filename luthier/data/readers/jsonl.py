"""JSON Lines: one object a line."""

from __future__ import annotations

from luthier.data.reading import READERS, Place, SourceRow, parse_json, read_text
from luthier.errors import InputError


@READERS.register(".jsonl")
def read_jsonl(place: Place) -> list[SourceRow]:
    """Read a JSON Lines file; values keep their types, blank lines are left out.

    Raises:
        InputError: a line that is not a JSON object, named by its number; a key given twice; an
            encoding other than UTF-8; no rows.
    """
    rows = []
    # only \n ends a line: str.splitlines would also cut at U+2028, which JSON allows in text
    for number, line in enumerate(read_text(place).split("\n"), 1):
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
            raise InputError(f"{where}: broken JSON: {error}.", fix=hint) from None
        if not isinstance(values, dict):
            raise InputError(
                f"{where} holds {_kind(values)}, and a row is an object with column names.",
                fix='Write it as {"column": value, ...}.',
            )
        rows.append(SourceRow(values, where))
    return rows


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}
    return names.get(type(value), "a number")
