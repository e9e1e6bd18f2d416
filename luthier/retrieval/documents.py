"""Documents: what a folder of files, or a table of rows, is before it is cut into passages."""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from luthier.data.refused import Refused
from luthier.errors import InputError, did_you_mean
from luthier.files import hash_of
from luthier.registry import Registry
from luthier.retrieval.hostile import hidden_in
from luthier.retrieval.sanitise import plain_text

#: Larger files are refused: a document of this size is an archive.
MOST_BYTES = 64 << 20
#: Keys of a document that say who may read it and when it holds; all others are metadata.
ACCESS, FROM, TO = LABELS = "access", "valid_from", "valid_to"


class NoDocumentError(InputError):
    """A source that holds none."""


@dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
        id: the path below what was indexed, with "/", or FILE#ID for a row of a table.
        text: as it is kept; offsets count its characters.
        source: where a person finds it.
        headings: (offset of the line, level from 1, text), in order.
        access: groups that may read it; none for everybody.
        valid_from, valid_to: days it holds, both included; None for no end.
        metadata: what else is known, plain values by name.
        suspicious: signs that it was written to mislead a model which only the file as a whole
            shows, such as text that is hidden from people.
    """

    id: str
    text: str
    source: str = ""
    headings: tuple[tuple[int, int, str], ...] = ()
    access: tuple[str, ...] = ()
    valid_from: datetime.date | None = None
    valid_to: datetime.date | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    suspicious: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Of everything that decides what is found of it."""
        return hash_of(
            [
                *(self.text, self.source, self.headings, sorted(self.access), str(self.valid_from)),
                *(str(self.valid_to), {k: str(v) for k, v in self.metadata.items()}),
                *self.suspicious,
            ]
        )


@dataclass(frozen=True)
class Found:
    """A file that a kind of documents is to be read from.

    Attributes:
        path: on this machine.
        name: the id that it has as a document.
        shown: for messages.
        refused: takes a row that cannot be read; None: it is an error.
        unread: the ids of such rows, as far as they have one.
    """

    path: Path
    name: str
    shown: str
    refused: Refused | None = None
    unread: set[str] = field(default_factory=set, compare=False)


@dataclass
class Reading:
    """What was read of the sources, for who has to know what is gone.

    Attributes:
        files: names of the files that were read to their end.
        unread: ids of files and rows that were there and could not be read: not gone.
        patterns: of labels, those that matched a document.
    """

    files: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    patterns: set[str] = field(default_factory=set)

    def spares(self, name: str) -> bool:
        """Whether a document that was not met may still be there."""
        return not self.unread.isdisjoint(own_and_file(name))

    def lacks(self, name: str) -> bool:
        """Whether a document that was not met is of a file that was read, and so is gone."""
        return not self.files.isdisjoint(own_and_file(name)) and not self.spares(name)


def own_and_file(name: str) -> Iterator[str]:
    """The id of a document, and what the file that it is a row of may be called: FILE#ID, where
    both may have "#" in them."""
    yield name
    for place, letter in enumerate(name):
        if letter == "#":
            yield name[:place]


#: By file ending: a file's documents. Texts are made plain, and labels read, by `documents_in`.
KINDS: Registry[Callable[[Found], Iterator[Document]]] = Registry(
    "kind of document", "luthier.retrieval.formats"
)


def documents_in(
    sources: Sequence[str],
    base: Path,
    *,
    before: Sequence[str] = (),
    labels: Sequence[tuple[str, Mapping[str, Any]]] = (),
    refused: Refused | None = None,
    reading: Reading | None = None,
) -> Iterator[Document]:
    """The documents of files and folders, in the order of their names.

    A file that several sources hold (a folder, and one within it) is one document, called as the
    first of them calls it.

    Args:
        sources: paths; of a folder every file with a known ending, hidden ones left out.
        base: where relative paths start.
        before: sources that were read earlier, by which files that they hold are called.
        labels: (pattern of an id, what is so labelled): see `read_labels`. Later ones win.
        refused: takes files and rows that cannot be read; None: the first of them is an error.
        reading: learns what was read.

    Raises:
        InputError: a source is missing or holds no document; two documents have one id; a file
            cannot be read.
    """
    seen: dict[str, str] = {}
    reading = Reading() if reading is None else reading
    earlier = [(base / one).resolve() for one in before]
    here = [(base / one).resolve() for one in sources]
    for place, source in enumerate(sources):
        count = 0
        for file in _files(source, base):
            if any(name_below(root, file.path) for root in here[:place]):
                count += 1  # it was read with that
                continue
            names = (name_below(root, file.path) for root in earlier)
            found = replace(
                file,
                name=next(filter(None, names), file.name),
                refused=refused,
                unread=reading.unread,
            )
            try:
                for document in _read(found):
                    count += 1
                    labelled = _labelled(document, labels, reading.patterns)
                    if labelled.id in seen:
                        raise InputError(
                            f"{found.shown} and {seen[labelled.id]} are both called "
                            f"{labelled.id!r}.",
                            fix="Rename one, or index them under a folder that holds both.",
                        )
                    seen[labelled.id] = found.shown
                    yield labelled
                reading.files.add(found.name)
            except InputError as error:
                if refused is None:
                    raise
                reading.unread.add(found.name)
                refused.add(found.shown, error)
        if not count and (refused is None or not refused.count):
            raise NoDocumentError(
                f"{source} holds no document.",
                fix=f"Known endings: {', '.join(KINDS.names())}.",
            )


def name_below(root: Path, file: Path) -> str | None:
    """What a source calls a file (its path below the folder), or None where it does not hold it.

    Args:
        root: of the source, resolved.
        file: below it or not, by its name; links are not followed.
    """
    if file == root:
        return file.name
    if not file.is_relative_to(root):
        return None
    below = file.relative_to(root)
    return None if any(part.startswith(".") for part in below.parts) else below.as_posix()


def read_labels(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Labels from a YAML file: a pattern of document ids, and what is said of what it matches.

        "hr/*": {access: [hr], valid_from: 2026-01-01, department: people}

    Raises:
        InputError: it is no such file.
    """
    from luthier.yaml_files import read_yaml

    held = read_yaml(path)
    if not isinstance(held, dict) or not all(isinstance(v, dict) for v in held.values()):
        raise InputError(
            f"{path} is no table of labels.",
            fix='One line for each pattern: "hr/*": {access: [hr], valid_to: 2026-12-31}.',
        )
    return [(str(pattern), dict(said)) for pattern, said in held.items()]


def labelled(document: Document, said: Mapping[str, Any], where: str) -> Document:
    """A document with what is said of it: `access`, `valid_from`, `valid_to`, and metadata.

    Raises:
        InputError: a date that is none, or groups that are no list of names.
    """
    # "Access" is a label too: passed over, it would leave a document open to everybody
    known = {
        key.strip().lower() if key.strip().lower() in LABELS else key: value
        for key, value in said.items()
        if value not in (None, "")
    }
    if not known:
        return document
    changes: dict[str, Any] = {}
    if ACCESS in known:
        changes[ACCESS] = _groups(known.pop(ACCESS), where)
    for key in (FROM, TO):
        if key in known:
            changes[key] = _day(known.pop(key), key, where)
    first = changes.get(FROM, document.valid_from)
    last = changes.get(TO, document.valid_to)
    if first and last and first > last:
        raise InputError(f"{where}: valid_from {first} is after valid_to {last}.")
    plain = {str(k): v if isinstance(v, str | int | float) else str(v) for k, v in known.items()}
    return replace(document, **changes, metadata={**document.metadata, **plain})


def _files(source: str, base: Path) -> Iterator[Found]:
    path = (base / source).resolve()
    if path.is_file():
        yield Found(path, path.name, source)
        return
    if not path.is_dir():
        raise InputError(f"{source} is not there.", fix="Name a file or a folder of documents.")
    for file in sorted(path.rglob("*")):
        below = file.relative_to(path)
        if any(part.startswith(".") for part in below.parts) or not file.is_file():
            continue
        # a link may lead anywhere on the machine; one to a file that is read itself is that file,
        # and one to a hidden file (as mounted settings have) is the only name it has
        target = file.resolve()
        if not target.is_relative_to(path) or (file.is_symlink() and _is_read(target, path)):
            continue
        if _ending(file) in KINDS.names():
            yield Found(file, below.as_posix(), f"{source.rstrip('/')}/{below.as_posix()}")


def _is_read(file: Path, folder: Path) -> bool:
    """Whether a file of a folder is a document by itself."""
    return name_below(folder, file) is not None and _ending(file) in KINDS.names()


def _ending(file: Path) -> str:
    return file.suffix.lower().lstrip(".")


def _read(found: Found) -> Iterator[Document]:
    ending = _ending(found.path)
    if ending not in KINDS:
        raise InputError(
            f"{found.shown} is of no known kind. {did_you_mean(ending, KINDS.names())}"
        )
    size = found.path.stat().st_size
    if size > MOST_BYTES and ending not in ("jsonl", "csv", "tsv", "parquet"):
        raise InputError(
            f"{found.shown} has {size >> 20} MB; a document may have {MOST_BYTES >> 20}.",
            fix="Split it.",
        )
    if not size:
        return
    for document in KINDS.get(ending)(found):
        if not document.text.strip():
            continue
        # millions of rows come this way, and most need nothing
        if not document.source or len(document.suspicious) > 1:
            document = replace(
                document,
                source=document.source or found.name,
                suspicious=tuple(dict.fromkeys(document.suspicious)),
            )
        yield document


def _labelled(
    document: Document, labels: Sequence[tuple[str, Mapping[str, Any]]], matched: set[str]
) -> Document:
    for pattern, said in labels:
        # "ä" is one letter or two, by who wrote it
        if fnmatch.fnmatchcase(_composed(document.id), _composed(pattern)):
            matched.add(pattern)
            document = labelled(document, said, pattern)
    return document


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _groups(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip().startswith("["):  # a list in a cell of a table
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        raise InputError(f"{where}: `access` is a list of groups, not {value!r}.")
    groups = tuple(sorted({name.strip() for name in names} - {""}))
    if "*" in groups:
        raise InputError(
            f"{where}: no group may be called '*'.", fix="Leave `access` out for everybody."
        )
    return groups


def _day(value: Any, key: str, where: str) -> datetime.date:
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(str(value).strip()[:10])
    except ValueError:
        raise InputError(
            f"{where}: {key} {value!r} is no date.", fix="Write it as 2026-01-31."
        ) from None


def made_plain(text: str) -> tuple[str, tuple[str, ...]]:
    """(the text as it is kept, what was hidden in it)."""
    kept = plain_text(text)
    return kept, tuple(hidden_in(text))
