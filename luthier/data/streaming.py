"""From a large source to examples in a file: one row in memory at a time, done once.

What was made of a file is kept in the cache folder under a hash of the file's bytes and of how its
rows become examples, so the same file is not read twice, and a check that was interrupted goes on
behind the files that were read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from luthier.data.examples import Example
from luthier.data.numbered import Occurrences
from luthier.data.reading import MissingColumnError, SourceRow, stream_rows
from luthier.data.recipes import (
    Convert,
    check_unicode,
    identify,
    made_of,
    recipe_of,
    split_columns,
)
from luthier.data.refused import Refused
from luthier.data.sizes import bytes_of, characters, files_of, rows_of
from luthier.data.skipping import usable_examples
from luthier.data.stored import Stored, decode_example, encode_example, store
from luthier.data.template_library import library_template
from luthier.data.template_rows import TemplateRows, evaluated_with, rephrased, rephraser
from luthier.errors import InputError
from luthier.files import hash_of, read_json
from luthier.models.catalogue import cache_folder
from luthier.program import program
from luthier.progress import Bar, Reporter, tracked
from luthier.task_sections import Data

#: The file of a folder of the cache with the rows that were refused.
_REFUSED = "refused.jsonl"
#: And the one with what is to be said of a template.
_NOTES = "notes.json"
_SHAPE = ("messages", "group")
#: Sources of more bytes than this are worked on in files.
LARGE = 32 << 20
#: Raised when examples are made or written otherwise, so that older files are made anew.
_VERSION = 2
#: Most sources that are kept; the one used longest ago goes first.
_KEPT = 8
#: Seconds after which a folder that is still being written belongs to nobody.
_ABANDONED = 86_400
_SHOWN = 5
#: Examples that are named at a time, and the characters of them.
_LOT, _LOT_SIZE = 512, 1 << 20


def is_large(source: str, base: Path) -> bool:
    """Whether a source is a file or folder of more than `LARGE` bytes."""
    try:
        return bytes_of(source, base) > LARGE
    except (OSError, ValueError, RuntimeError):  # reading it says what is wrong
        return False


def stored_examples(
    source: str,
    base: Path,
    data: Data,
    reporter: Reporter | None = None,
    refused: Refused | None = None,
    labels: Sequence[str] | None = None,
    notes: list[str] | None = None,
) -> Stored[Example]:
    """The examples of a large source, in a file of the cache; the same as `make_examples` gives.

    Memory: some twenty bytes for each row, however long it is.

    Args:
        source, base: as for `read_rows`.
        data: how a row becomes an example.
        labels, notes: as for `make_examples`.
        reporter: hears how far it is.
        refused: takes rows that cannot be used, also where they were read before; without it the
            first of them is an error.

    Raises:
        InputError: as for `make_examples`.
        RunError: the cache cannot be written.
    """
    reporter = reporter or Reporter()
    name = hash_of(
        [
            _VERSION,
            _digest(source, base, reporter),
            source,
            [
                data.model_dump(mode="json", include={"format", "input", "output", *_SHAPE}),
                sorted(split_columns(data)),
            ],
            *([] if refused is None else ["skip"]),
            *([] if data.template is None else _template_key(data, labels)),
        ]
    )[:24]
    folder = cache_folder() / "rows" / name
    if (folder / "places.npy").is_file():
        reporter.say(f"{source}: its rows were read before, and are taken from the cache.")
        os.utime(folder)  # the one used longest ago goes first
        if refused is not None:
            refused.take(folder / _REFUSED)
        if notes is not None and (folder / _NOTES).is_file():
            notes += read_json(folder / _NOTES)
        return Stored(folder, decode_example)
    with reporter.work(f"reading {source}", rows_of(source, base)) as bar:
        kept = _stored(folder, source, base, data, bar, refused, labels, notes)
    _forget(folder.parent)
    return kept


def _stored(
    folder: Path,
    source: str,
    base: Path,
    data: Data,
    bar: Bar,
    refused: Refused | None,
    labels: Sequence[str] | None,
    notes: list[str] | None,
) -> Stored[Example]:
    beside: dict[str, IO[bytes]] = {}
    with contextlib.ExitStack() as stack:
        if refused is not None:
            beside[_REFUSED] = stack.enter_context(refused.noted())
        library: TemplateRows | None = None
        if data.template is None:
            opened = stream_rows(source, base, format=data.format, refused=refused)
            rows, recipe = tracked(opened, bar), recipe_of(data)
        else:
            # what cannot be read is counted the first time
            library = TemplateRows(Reopened(source, base, data, refused), data, labels)
            rows = tracked(library.kept(), bar)
            recipe = library.turns, set(library.bound.columns.values())
        if refused is None:
            examples = stream_examples(rows, data, recipe)
        else:
            examples = usable_examples(rows, *recipe, data, refused)

        def encoded() -> Iterator[list[Any]]:
            yield from map(encode_example, examples)
            if library is not None:
                said = library.notes()
                beside[_NOTES] = io.BytesIO(json.dumps(said).encode())
                if notes is not None:
                    notes.extend(said)

        return store(folder, encoded(), decode_example, beside)


class Reopened:
    """The rows of a source, read anew each time they are gone through.

    Args:
        source, base: as for `read_rows`.
        data: names the format.
        refused: takes the rows that cannot be read, the first time; without it the first of them is
            an error.
    """

    def __init__(self, source: str, base: Path, data: Data, refused: Refused | None) -> None:
        self._opened = partial(stream_rows, source, base, format=data.format)
        self._skip, self._refused = refused is not None, refused

    def __iter__(self) -> Iterator[SourceRow]:
        refused, self._refused = self._refused, Refused() if self._skip else None
        return self._opened(refused=refused)


def stored_phrasings(
    held: Stored[Example],
    source: str,
    base: Path,
    data: Data,
    labels: Sequence[str] | None,
    seed: int,
    train: bool,
    reporter: Reporter | None = None,
) -> Stored[Example] | None:
    """Stored examples in the phrasings that the task asks for, in a file of the cache; None where
    they have them.

    Args:
        held: from `stored_examples`.
        source, base, data: as for it.
        labels: what the templates were given to choose from.
        seed: the task's.
        train: for training rows; else for validation and test rows.
        reporter: hears how far it is.
    """
    choose = rephraser(data, seed, train)
    if choose is None:
        return None
    how = [data.phrasing if train else None, data.evaluation_phrasing, labels, seed, train]
    folder = held.folder.parent / hash_of([_VERSION, held.folder.name, how])[:24]
    if (folder / "places.npy").is_file():
        os.utime(folder)
        return Stored(folder, decode_example)
    rows = Reopened(source, base, data, Refused() if data.refused == "skip" else None)
    with (reporter or Reporter()).work(f"phrasing {source}", len(held)) as bar:
        made = rephrased(tracked(iter(held), bar), rows, data, labels, choose)
        kept = store(folder, map(encode_example, made), decode_example)
    _forget(folder.parent)
    return kept


def _digest(source: str, base: Path, reporter: Reporter) -> str:
    """A hash of a source's bytes."""
    digest = hashlib.sha256()
    files = files_of(source, base)
    with reporter.work(f"looking at {source}", sum(file.stat().st_size for file in files)) as bar:
        for file in files:
            digest.update(f"{file.name}:{file.stat().st_size}:".encode())
            with file.open("rb") as content:
                while block := content.read(1 << 22):
                    digest.update(block)
                    bar.advance(len(block))
    return digest.hexdigest()


def _template_key(data: Data, labels: Sequence[str] | None) -> list[Any]:
    """What decides how a template of the library writes rows in its fixed phrasing."""
    template = library_template(data.template or "")
    return [
        program(),
        template.name,
        template.version,
        data.fields,
        evaluated_with(data, template).name,
        labels,
    ]


def rows_or_examples(
    rows: Iterator[SourceRow], data: Data, refused: Refused | None
) -> tuple[list[SourceRow], Stored[Example] | None]:
    """Rows whose number nobody knows before (a hub's): all of them where they are few; else their
    examples in a file of the cache, and no rows.

    Args:
        rows: of one source.
        data: how a row becomes an example; not by a template of the library.
        refused: as for `stored_examples`.

    Raises:
        InputError: as for `make_examples`.
        RunError: the cache cannot be written.
    """
    held: list[SourceRow] = []
    size = 0
    for row in rows:
        held.append(row)
        size += characters(row.values)
        if size > LARGE:
            break
    else:
        return held, None

    def every() -> Iterator[SourceRow]:
        while held:
            yield from held
            held.clear()
        yield from rows

    digest = hashlib.sha256()

    def made() -> Iterator[list[Any]]:
        some = (
            stream_examples(every(), data)
            if refused is None
            else usable_examples(every(), *recipe_of(data), data, refused)
        )
        for example in some:
            line = encode_example(example)
            digest.update(json.dumps(line, separators=(",", ":")).encode())
            yield line

    folder = cache_folder() / "rows"
    part = folder / f".{os.urandom(8).hex()}.part"
    store(part, made(), decode_example)
    # the same rows are in the same folder, whatever they were read from
    kept = folder / digest.hexdigest()[:24]
    if (kept / "places.npy").is_file():
        shutil.rmtree(part)
        os.utime(kept)
    else:
        part.replace(kept)
    _forget(folder)
    return [], Stored(kept, decode_example)


def stream_examples(
    rows: Iterable[SourceRow], data: Data, recipe: tuple[Convert, set[str]] | None = None
) -> Iterator[Example]:
    """The examples of rows, one after another, as `make_examples` makes them.

    Args:
        rows: of one source.
        data: how a row becomes an example.
        recipe: (what turns a row into turns and the answer, the columns that takes), where a
            template of the library does.

    Raises:
        InputError: as for `make_examples`; blank rows and missing columns are counted to the end
            of the rows, and said then.
    """
    convert, used = recipe or recipe_of(data)
    seen = Occurrences()
    lot: list[tuple[SourceRow, Example]] = []
    size = 0
    blank: dict[str, list[str]] = {"input": [], "output": []}
    counts = {"input": 0, "output": 0, "rows": 0, "without": 0}
    without: list[str] = []
    missing: MissingColumnError | None = None
    for row in rows:
        counts["rows"] += 1
        try:
            messages, said = convert(row)
        except MissingColumnError as error:
            if missing is None or error.column == missing.column:
                missing = missing or error
                counts["without"] += 1
                without += [row.source] * (len(without) < _SHOWN)
            continue
        example = made_of(row, messages, said, data, used)
        for what, text in (("input", messages[-1].content.strip()), ("output", example.output)):
            if not text:
                counts[what] += 1
                blank[what] += [row.source] * (len(blank[what]) < _SHOWN)
        check_unicode(row, messages, example.output)
        if missing is None and not counts["input"] and not counts["output"]:
            lot.append((row, example))
            size += len(example.output) + sum(len(turn.content) for turn in messages)
            if len(lot) == _LOT or size > _LOT_SIZE:
                yield from _named(lot, seen)
                lot, size = [], 0
    if missing is None and not counts["input"] and not counts["output"]:
        yield from _named(lot, seen)
    if missing is not None:
        if counts["without"] == counts["rows"]:
            raise missing
        raise InputError(
            f"`{missing.key}` names the column {missing.column!r}, which {counts['without']} of "
            f"{counts['rows']} rows do not have: {_listed(without, counts['without'])}.",
            fix="Fill it in or remove these rows (`luthier check TASK --fix NEW.jsonl` does); "
            "where it may be absent, say so in the template: {{ name | default('') }}.",
        )
    for what in ("input", "output"):
        if counts[what]:
            raise InputError(
                f"{counts[what]} of {counts['rows']} rows have a blank {what}: "
                f"{_listed(blank[what], counts[what])}.",
                fix="Fill them in or remove them (`luthier check TASK --fix NEW.jsonl` does), or "
                f"check the template that makes the {what}.",
            )


def _named(lot: Sequence[tuple[SourceRow, Example]], seen: Occurrences) -> Iterator[Example]:
    """The examples with their ids: the row's own, else one from its content, both as `recipes` has
    them; only hashes of the ids so far are kept."""
    named = [identify(row, example) for row, example in lot]
    counts = seen.count([name for name, _ in named])
    for (row, example), (name, own), count in zip(lot, named, counts, strict=True):
        if own and count > 1:
            raise InputError(
                f"{row.source} has the same id {name!r} as a row before it.",
                fix="Make the ids unique, or rename the column when it is no id.",
            )
        yield replace(example, id=name if count == 1 else f"{name}-{count}")


def _listed(sources: list[str], count: int) -> str:
    return ", ".join(sources) + ", ..." * (count > len(sources))


def _forget(folder: Path) -> None:
    """Remove the sources that were read longest ago, so that the cache does not grow for ever, and
    what a process that was killed left half written."""
    held = [entry for entry in folder.iterdir() if (entry / "places.npy").is_file()]
    for entry in sorted(held, key=lambda entry: entry.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(entry, ignore_errors=True)
    for part in folder.glob(".*.part"):
        if time.time() - part.stat().st_mtime > _ABANDONED:
            shutil.rmtree(part, ignore_errors=True)
