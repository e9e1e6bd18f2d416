"""Parallel text: two or more files whose lines are translations of each other."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from luthier.data.lines import text_lines
from luthier.data.reading import READERS, Place, SourceRow, partner
from luthier.errors import InputError


@READERS.register("parallel")
def read_parallel(place: Place) -> Iterator[SourceRow]:
    """Read `train.{en,de}`, or train.en with the one file beside it that is train in another
    language: a row for each line, its columns named by the files' endings.

    Raises:
        InputError: a file that is missing or empty, or files of different numbers of lines: which
            line belongs to which is not known then. A line that is blank in one file and not in the
            other is refused.
    """
    files = _files(place)
    lines = [
        text_lines(replace(place, shown=shown, path=path, refused=None)) for _, shown, path in files
    ]
    number = 0
    for number, together in enumerate(itertools.zip_longest(*lines), 1):
        if None in together:
            short = ", ".join(
                shown for (_, shown, _), one in zip(files, together, strict=True) if one is None
            )
            raise InputError(
                f"{place.shown}: {short} ends after {number - 1} lines and the other does not.",
                fix="Lines of parallel files belong together one by one; mend the files.",
            )
        values = {
            name: one[1].rstrip("\r\n") for (name, *_), one in zip(files, together, strict=True)
        }
        where = f"{place.shown} line {number}"
        blank = [name for name, text in values.items() if not text.strip()]
        if len(blank) == len(values):
            continue
        if blank:
            problem = f"{where} is blank in {', '.join(blank)} only."
            place.refuse(where, InputError(problem, fix="Fill it in, or remove the line in all."))
            continue
        yield SourceRow(values, where)


def _files(place: Place) -> list[tuple[str, str, Path]]:
    """(column, name for messages, path) of each file."""
    other = partner(place.path) if place.path.exists() else None
    if other is not None:
        return [
            (place.path.suffix[1:], place.shown, place.path),
            (other.suffix[1:], f"{place.shown.removesuffix(place.path.name)}{other.name}", other),
        ]
    match = re.fullmatch(r"(.*)\{([^{}/]+)\}([^{}]*)", place.path.name)
    names = [name.strip() for name in match[2].split(",")] if match else []
    if match is None or len(names) < 2 or len(set(names)) < len(names) or not all(names):
        raise InputError(
            f"{place.shown} does not exist, and names no parallel files.",
            fix="Write name.{en,de} for name.en and name.de.",
        )
    folder = place.shown.removesuffix(place.path.name)
    files = []
    for name in names:
        file = f"{match[1]}{name}{match[3]}"
        path = place.path.with_name(file)
        if not path.is_file():
            raise InputError(f"{place.shown}: {folder}{file} does not exist.")
        files.append((name, f"{folder}{file}", path))
    return files
