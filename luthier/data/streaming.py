"""From a large source to examples in a file: one row in memory at a time, done once.

What was made of a file is kept in the cache folder under a hash of the file's bytes and of how its
rows become examples, so the same file is not read twice, and a check that was interrupted goes on
behind the files that were read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from luthier.data.examples import Example
from luthier.data.numbered import Occurrences
from luthier.data.reading import MissingColumnError, SourceRow, stream_rows
from luthier.data.recipes import check_unicode, identify, made_of, recipe_of, split_columns
from luthier.data.refused import Refused
from luthier.data.sizes import bytes_of, characters, files_of, rows_of
from luthier.data.skipping import usable_examples
from luthier.data.stored import Stored, decode_example, encode_example, store
from luthier.errors import InputError
from luthier.files import hash_of
from luthier.models.catalogue import cache_folder
from luthier.progress import Reporter, tracked
from luthier.task_sections import Data

#: The file of a folder of the cache with the rows that were refused.
_REFUSED = "refused.jsonl"
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
) -> Stored[Example]:
    """The examples of a large source, in a file of the cache; the same as `make_examples` gives.

    Memory: some hundred bytes for each row, however long it is.

    Args:
        source, base: as for `read_rows`.
        data: how a row becomes an example; not by a template of the library.
        reporter: hears how far it is.
        refused: takes rows that cannot be used, also where they were read before; without it the
            first of them is an error.

    Raises:
        InputError: as for `make_examples`.
        RunError: the cache cannot be written.
    """
    reporter = reporter or Reporter()
    digest = hashlib.sha256()
    files = files_of(source, base)
    with reporter.work(f"looking at {source}", sum(file.stat().st_size for file in files)) as bar:
        for file in files:
            digest.update(f"{file.name}:{file.stat().st_size}:".encode())
            with file.open("rb") as content:
                while block := content.read(1 << 22):
                    digest.update(block)
                    bar.advance(len(block))
    wanted = {"format", "input", "output", "messages", "group"}
    recipe = [data.model_dump(mode="json", include=wanted), sorted(split_columns(data))]
    how = [] if refused is None else ["skip"]
    name = hash_of([_VERSION, digest.hexdigest(), source, recipe, *how])[:24]
    folder = cache_folder() / "rows" / name
    if (folder / "places.npy").is_file():
        reporter.say(f"{source}: its rows were read before, and are taken from the cache.")
        os.utime(folder)  # the one used longest ago goes first
        if refused is not None:
            refused.take(folder / _REFUSED)
        return Stored(folder, decode_example)
    with reporter.work(f"reading {source}", rows_of(source, base)) as bar:
        if refused is None:
            rows = tracked(stream_rows(source, base, format=data.format), bar)
            made = (encode_example(example) for example in stream_examples(rows, data))
            kept = store(folder, made, decode_example)
        else:
            with refused.noted() as listed:
                rows = tracked(stream_rows(source, base, format=data.format, refused=refused), bar)
                some = usable_examples(rows, *recipe_of(data), data, refused)
                kept = store(folder, map(encode_example, some), decode_example, {_REFUSED: listed})
    _forget(folder.parent)
    return kept


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


def stream_examples(rows: Iterable[SourceRow], data: Data) -> Iterator[Example]:
    """The examples of rows, one after another, as `make_examples` makes them.

    Raises:
        InputError: as for `make_examples`; blank rows and missing columns are counted to the end
            of the rows, and said then.
    """
    convert, used = recipe_of(data)
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
