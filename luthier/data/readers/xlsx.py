"""Excel workbooks."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from luthier.data.plain import plain
from luthier.data.reading import READERS, Place, SourceRow, check_columns
from luthier.data.safe_zip import check_zip, has_formulas
from luthier.errors import InputError

#: The most rows that a sheet of Excel has.
_MOST_ROWS = 1_048_576

Cells = tuple[Any, ...]


@READERS.register(".xlsx")
@READERS.register(".xlsm")
def read_xlsx(place: Place) -> Iterator[SourceRow]:
    """Read the rows of a workbook below its header; numbers and truth values keep their types,
    dates are ISO 8601 text, an empty cell is None, a blank row is left out.

    A formula is never computed: its cell is the value that was stored with it, else its own text.
    Sheets with the same header are read one after another, and empty ones are passed over.

    Raises:
        InputError: no workbook, or one that unpacks to far more than it is; sheets with different
            headers; two columns of one name; no rows. A row with cells beyond the header is
            refused.
    """
    if place.path.stat().st_size == 0:
        raise InputError(f"{place.shown} is empty.", fix="Put rows into it, or name another file.")
    unpacked = check_zip(place)
    try:
        # openpyxl says what it leaves out of a workbook: charts, validation, print settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield from _rows(_sheets(place), place, unpacked)
    except InputError:
        raise
    except Exception as error:  # openpyxl raises KeyError, TypeError, ParseError and others
        problem = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"{place.shown} cannot be read as an Excel workbook: {problem}.",
            fix="Open it in a spreadsheet program and save it again, or save it as csv.",
        ) from None


def _sheets(place: Place) -> Iterator[tuple[str, Iterator[Cells]]]:
    """(name, rows of cells) of each sheet."""
    import openpyxl

    def opened(values: bool) -> Any:
        return openpyxl.load_workbook(
            place.path, read_only=True, data_only=values, keep_links=False
        )

    stored = opened(True)
    formulas = opened(False) if has_formulas(place) else None
    try:
        for sheet in stored.worksheets:
            sheet.reset_dimensions()  # what a file says about its size is no fact
            rows = sheet.iter_rows(max_row=_MOST_ROWS, values_only=True)
            if formulas is not None:
                other = formulas[sheet.title]
                other.reset_dimensions()
                texts = other.iter_rows(max_row=_MOST_ROWS, values_only=True)
                rows = (
                    tuple(_either(*pair) for pair in zip(row, text, strict=False))
                    for row, text in zip(rows, texts, strict=False)
                )
            yield sheet.title, rows
    finally:
        stored.close()
        if formulas is not None:
            formulas.close()


def _either(value: Any, formula: Any) -> Any:
    """The stored value of a cell, or the text of its formula where none was stored."""
    return value if value is not None else getattr(formula, "text", formula)


def _rows(
    sheets: Iterable[tuple[str, Iterator[Cells]]], place: Place, unpacked: int
) -> Iterator[SourceRow]:
    header: list[str] = []
    first_sheet, number, seen = "", 0, 0
    for title, rows in sheets:
        here: list[str] = []
        for line, cells in enumerate(rows, 1):
            seen += len(cells)
            # empty cells may be left out of the file, and one far to the right stands for many
            if seen > unpacked + 1_000_000:
                raise InputError(
                    f"{place.shown}, sheet {title!r}: its cells lie so far apart that it unpacks "
                    "to many times its size.",
                    fix="Delete what is far from the table, or save the table as csv.",
                )
            values = _trimmed(cells)
            if not values:
                continue
            if not here:
                here = [
                    str(name).strip() if name is not None and str(name).strip() else f"column_{n}"
                    for n, name in enumerate(values, 1)
                ]
                check_columns(here, place)
                if header and here != header:
                    raise InputError(
                        f"{place.shown} has sheets with different headers: {first_sheet!r} "
                        f"({', '.join(header)}) and {title!r} ({', '.join(here)}).",
                        fix="Save the sheet you mean as a workbook or a csv file of its own.",
                    )
                header, first_sheet = here, first_sheet or title
                continue
            number += 1
            source = f"{place.shown} row {number}"
            if len(values) > len(header):
                problem = (
                    f"{source} (sheet {title!r}, line {line}) has {len(values)} cells, and the "
                    f"header has {len(header)}: {', '.join(header)}."
                )
                place.refuse(source, InputError(problem, fix="Name the column, or empty the cell."))
                continue
            padded = itertools.chain(values, itertools.repeat(None))
            yield SourceRow(dict(zip(header, map(plain, padded), strict=False)), source)
    if not header:
        raise InputError(f"{place.shown} is empty.", fix="Put a header and rows into it.")
    if not number:
        raise InputError(
            f"{place.shown} has a header ({', '.join(header)}) and no rows.",
            fix="Put rows below the header.",
        )


def _trimmed(cells: Cells) -> Cells:
    """The cells up to the last that holds something."""
    end = len(cells)
    while end and cells[end - 1] is None:
        end -= 1
    return cells[:end]
