"""A folder of files of one format, or what a chat program exported."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.chats.slack_export import is_slack_export, slack_messages
from luthier.data.reading import READERS, Place, SourceRow, endings
from luthier.errors import InputError

#: Endings of files that are often notes beside the data; read where there is nothing else.
_NOTES = (".txt", ".log")


@READERS.register("folder")
def read_folder(place: Place) -> Iterator[SourceRow]:
    """Read all files of a folder that can be read, sorted by name; subfolders are left alone.

    Files of other kinds (README.md, LICENSE) and hidden files are passed over, and so are text
    files beside tables. The export of a Slack team gives its messages.

    Raises:
        InputError: no file with rows, files of more than one format, or a link out of the folder.
    """
    if is_slack_export(place.path):
        return slack_messages(place)
    return _files(place)


def _files(place: Place) -> Iterator[SourceRow]:
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
    files = [path for path in files if path.suffix.lower() not in _NOTES] or files
    formats = sorted({path.suffix.lower() for path in files})
    if len(formats) > 1:
        raise InputError(
            f"The folder {place.shown} holds files of several formats: {', '.join(formats)}.",
            fix="Keep one format in it, or name one file.",
        )
    inside = place.path.resolve()
    for path in files:
        if not path.resolve().is_relative_to(inside):
            raise InputError(
                f"{place.shown}/{path.name} is a link to {path.resolve()}, outside the folder.",
                fix="Name that file itself, or copy it into the folder.",
            )
    read = READERS.get(formats[0])
    for path in files:
        yield from read(place.at(path.name, path))
