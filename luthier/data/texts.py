"""Raw text for continued pre-training: documents from text files or from a column of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from luthier.data.decoding import decode
from luthier.data.examples import Example, Splits
from luthier.data.prepare import Prepared
from luthier.data.reading import SourceRow, stream_rows
from luthier.data.refused import Refused
from luthier.data.shares import rank
from luthier.data.sources import understood
from luthier.data.templates import compile_template
from luthier.errors import InputError
from luthier.files import hash_of
from luthier.task import Task

#: Files that are one document each; the column is called `text`.
ENDINGS = (".txt", ".md")
#: What is held out where the task names nothing: this share, and at most so many bytes of UTF-8.
SHARE, MOST_BYTES = 0.1, 100_000
#: With fewer documents than this the end of each is held out instead of whole ones.
WHOLE_FROM = 10


def prepare_texts(task: Task) -> Prepared:
    """A raw-text task's documents: those to train on, and those held out to measure by.

    A document is an `Example` without messages. A .txt or .md file, or each such file in a folder,
    is one document; of other sources each row is one. The held-out ones are
    `data.validation`, else they are cut: a tenth of the documents, chosen by their hash (so that
    copies of one document stay on one side), or the last tenth of each where there are few.

    Raises:
        InputError: nothing can be read, or nothing is left to train on.
        ModelError: a hub that cannot be reached.
    """
    task = understood(task)
    data = task.data
    refused = Refused()
    train, notes = _documents(task, data.train, refused)
    if data.limit.train is not None and len(train) > data.limit.train:
        notes.append(f"train: {data.limit.train} of {len(train)} documents (limit.train).")
        train = train[: data.limit.train]
    if data.validation is not None:
        held_out, said = _documents(task, data.validation, refused)
        notes += said
        seen = {example.output for example in train}
        repeated = sum(example.output in seen for example in held_out)
        if repeated:
            notes.append(f"{repeated} documents of data.validation are also trained on.")
        if data.limit.validation is not None:
            held_out = held_out[: data.limit.validation]
    elif len(train) >= WHOLE_FROM:
        train, held_out = _whole(train, task.seed)
        notes.append(f"{len(held_out)} documents are held out to measure by.")
    else:
        train, held_out = _ends(train)
        notes.append(
            f"The last part of {len(held_out)} of {len(train)} documents is held out to measure by."
        )
    if not held_out:
        notes.append("The text is too short to hold any of it out: nothing is measured.")
    return Prepared(Splits(tuple(train), tuple(held_out), ()), None, tuple(notes), refused)


def _documents(task: Task, source: str, refused: Refused) -> tuple[list[Example], list[str]]:
    template = compile_template(task.data.text or "", "data.text")
    form = task.data.format
    taking = refused if task.data.refused == "skip" else None
    before = refused.count
    rows: Iterable[SourceRow] = [] if form else _text_files(source, task.folder)
    rows = rows or stream_rows(source, task.folder, format=form, refused=taking)
    documents, blank, repeats = [], 0, dict[str, int]()
    for row in rows:
        try:
            text = template.render(row)
        except InputError as error:
            if taking is None:
                raise
            taking.add(row.source, error)
            continue
        if not text.strip():
            blank += 1
            continue
        name = hash_of(text)[:16]
        repeats[name] = repeats.get(name, 0) + 1
        unique = name if repeats[name] == 1 else f"{name}-{repeats[name]}"
        documents.append(Example(unique, (), text, source=row.source))
    if not documents:
        first = refused.rows[min(before, len(refused.rows) - 1)].reason if refused.rows else ""
        raise InputError(f"{source} holds no text.", fix=first or "Check `data.text`.")
    notes = [f"{blank} blank documents of {source} were left out."] if blank else []
    if left_out := refused.count - before:
        notes.append(f"{left_out} rows of {source} cannot be used and were left out.")
    return documents, notes


def _text_files(source: str, base: Path) -> list[SourceRow]:
    """The text files a source names, as rows with one column; none where it names other files."""
    path = base / Path(source).expanduser()
    if path.is_dir():
        files = sorted(
            file
            for file in path.iterdir()
            if file.is_file() and file.suffix.lower() in ENDINGS and not file.name.startswith(".")
        )
    elif path.is_file() and path.suffix.lower() in ENDINGS:
        files = [path]
    else:
        return []
    shown = {
        file: f"{source.rstrip('/')}/{file.name}" if path.is_dir() else source for file in files
    }
    try:
        return [
            SourceRow({"text": decode(file.read_bytes(), shown[file])}, shown[file])
            for file in files
        ]
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}.") from None


def _whole(documents: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Hold out whole documents, least hash first, until there are enough."""
    sizes = {example.id: len(example.output.encode("utf-8", "replace")) for example in documents}
    enough = min(MOST_BYTES, SHARE * sum(sizes.values()))
    groups: dict[str, list[Example]] = {}
    for example in documents:
        groups.setdefault(example.output, []).append(example)
    chosen: set[str] = set()
    taken = 0
    for text in sorted(groups, key=lambda text: rank(f"{seed}:held-out", hash_of(text))):
        size = sum(sizes[example.id] for example in groups[text])
        # a long document is passed over where a shorter one will do; something must be trained on
        if taken and taken + size > 1.5 * enough:
            continue
        if len(chosen) + 1 == len(groups):
            break
        chosen.add(text)
        taken += size
        if taken >= enough:
            break
    kept = [example for example in documents if example.output not in chosen]
    return kept, [example for example in documents if example.output in chosen]


def _ends(documents: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Hold out the last tenth of every document that is long enough, from the start of a line, else
    of a word, on."""
    kept, held_out = [], []
    for example in documents:
        text = example.output
        size = min(int(SHARE * len(text)), MOST_BYTES // len(documents))
        at = len(text) - size
        for border in ("\n", " "):
            place = text.find(border, at)
            if 0 <= place < len(text) - size // 2:
                at = place + 1
                break
        end = text[at:]
        if size < 20 or not end.strip():
            kept.append(example)
            continue
        kept.append(Example(example.id, (), text[:at], source=example.source))
        held_out.append(
            Example(f"{example.id}-end", (), end, source=f"the end of {example.source}")
        )
    return kept, held_out
