"""A folder of files of one format."""

from __future__ import annotations

from luthier.data.reading import READERS, Place, SourceRow, endings
from luthier.errors import InputError


@READERS.register("folder")
def read_folder(place: Place) -> list[SourceRow]:
    """Read all files of a folder that can be read, sorted by name; subfolders are left alone.

    Files of other kinds (README.md, LICENSE) and hidden files are passed over.

    Raises:
        InputError: no file with rows, or files of more than one format.
    """
    known = endings()
    files = sorted(
        (
            path
            for path in place.path.iterdir()
            if path.is_file() and not path.name.startswith(".") and path.suffix.lower() in known
        ),
        key=lambda path: path.name,
    )
    if not files:
        raise InputError(
            f"The folder {place.shown} holds no file with rows.",
            fix=f"Known endings: {', '.join(known)}. Subfolders are not searched.",
        )
    formats = sorted({path.suffix.lower() for path in files})
    if len(formats) > 1:
        raise InputError(
            f"The folder {place.shown} holds files of several formats: {', '.join(formats)}.",
            fix="Keep one format in it, or name one file.",
        )
    read = READERS.get(formats[0])
    shown = place.shown.rstrip("/")
    return [row for path in files for row in read(Place(f"{shown}/{path.name}", path))]
