"""XML: a root whose repeated children are rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from luthier.data.reading import READERS, Place, SourceRow
from luthier.data.safe_xml import elements
from luthier.errors import InputError


@READERS.register(".xml")
def read_xml(place: Place) -> Iterator[SourceRow]:
    """Read the children of the root that have attributes or elements in them, one row each: every
    value is text, or a list of texts where a tag repeats.

    Children that hold nothing but text (the name and date of an export) are about the file and are
    passed over.

    Raises:
        InputError: broken XML; a declared entity; several kinds of rows; no rows.
    """
    kinds: Counter[str] = Counter()
    for element in elements(place):
        if set(element.values) <= {"text"}:
            continue
        kinds[element.name] += 1
        if len(kinds) > 1:
            raise InputError(
                f"{place.shown} line {element.line}: rows of two kinds: "
                f"{' and '.join(f'<{name}>' for name in kinds)}.",
                fix="Keep one kind in the file.",
            )
        yield SourceRow(element.values, f"{place.shown} line {element.line} ({element.name})")
    if not kinds:
        raise InputError(
            f"{place.shown} holds no rows: expected elements below the root, each with attributes "
            "or elements of its own."
        )
