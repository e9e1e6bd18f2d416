"""`luthier index`: documents that can be searched and cited, kept current."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.verbs.options import Json

if TYPE_CHECKING:
    from luthier.retrieval.passages import Scope
    from luthier.retrieval.writing import Written

app = typer.Typer(
    name="index",
    help="Make documents searchable, with citations, and keep them current.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

#: Text, as a path would make one slash of the two of s3://
Folder = Annotated[
    str, typer.Argument(metavar="INDEX", help="The folder of an index, or s3://bucket/path.")
]
Skip = Annotated[
    bool, typer.Option("--skip-bad", help="Go on past files that cannot be read, and list them.")
]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="NAME", help="A group that may read; may be repeated."),
]
On = Annotated[
    str | None, typer.Option(metavar="DATE", help="What was valid on that day; today if left out.")
]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Only documents with this metadata; may be repeated."),
]
Encoder = Annotated[
    str | None, typer.Option(help="Sentence encoder: catalogue name, folder or hub id.")
]
Size = Annotated[int | None, typer.Option(help="Characters of a passage, at most; 1000.")]
Overlap = Annotated[int | None, typer.Option(help="Characters that passages share, at most; 150.")]
Quarantine = Annotated[
    bool, typer.Option("--quarantine", help="Leave out passages that speak to the model.")
]


@app.command()
def build(
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENTS...", help="Files, folders.")],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="A new folder for the index, or s3://bucket/path.")
    ],
    encoder: Encoder = None,
    size: Size = None,
    overlap: Overlap = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="Who may read what, and when it is valid."),
    ] = None,
    skip: Skip = False,
    as_json: Json = False,
) -> None:
    """Index documents: txt, md, html, pdf, docx, and rows of jsonl, csv, tsv, parquet."""
    from luthier.data.refused import Refused
    from luthier.display import Display
    from luthier.retrieval import building
    from luthier.retrieval.chunks import Chunking
    from luthier.retrieval.index import ENCODER

    done = building.build(
        documents,
        out,
        encoder=encoder or ENCODER,
        chunking=Chunking(
            Chunking.size if size is None else size,
            Chunking.overlap if overlap is None else overlap,
        ),
        labels=labels,
        reporter=Display(),
        refused=Refused() if skip else None,
    )
    _told(done, out, as_json)
    if not as_json:
        print(f'\nNext: luthier index search {out} "..."\n      luthier ask {out} "..."')


@app.command()
def add(
    index: Folder,
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENTS...", help="Files, folders.")],
    encoder: Encoder = None,
    size: Size = None,
    overlap: Overlap = None,
    skip: Skip = False,
    as_json: Json = False,
) -> None:
    """Put documents in; those that changed replace what was there."""
    from luthier.data.refused import Refused
    from luthier.display import Display
    from luthier.retrieval import building

    refused = Refused() if skip else None
    done = building.add(
        index,
        documents,
        wish=building.Wish(encoder, size, overlap),
        reporter=Display(),
        refused=refused,
    )
    _told(done, index, as_json)


@app.command()
def update(
    index: Folder,
    documents: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DOCUMENTS...]", help="Instead of what was indexed before."),
    ] = None,
    encoder: Encoder = None,
    size: Size = None,
    overlap: Overlap = None,
    skip: Skip = False,
    as_json: Json = False,
) -> None:
    """Make the index what its documents are now: new, changed, and gone."""
    from luthier.data.refused import Refused
    from luthier.display import Display
    from luthier.retrieval import building

    refused = Refused() if skip else None
    done = building.update(
        index,
        documents or (),
        wish=building.Wish(encoder, size, overlap),
        reporter=Display(),
        refused=refused,
    )
    _told(done, index, as_json)


@app.command()
def remove(
    index: Folder,
    ids: Annotated[list[str], typer.Argument(metavar="DOCUMENT...", help="Ids, as `list` shows.")],
    as_json: Json = False,
) -> None:
    """Take documents out."""
    from luthier.retrieval import building

    _told(building.remove(index, ids), index, as_json)


@app.command()
def restore(
    index: Folder,
    version: Annotated[int, typer.Argument(help="A number that `history` shows.")],
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Also where labels of now close what was open then.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Go back to an older version, which becomes the newest."""
    from luthier.retrieval import building

    _told(building.restore(index, version, reopen=reopen), index, as_json)


@app.command("list")
def list_documents(index: Folder, group: Groups = None, as_json: Json = False) -> None:
    """List the documents and who may read them; metadata (--json) as --group may read it."""
    from rich.table import Table

    from luthier.display import out
    from luthier.retrieval.index import Index

    held = Index.open(index).documents(group or ())
    if as_json:
        _print(held)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("document", "read by", "valid", "signs"):
        table.add_column(name, overflow="fold")
    for one in held:
        ends = (one["valid_from"], one["valid_to"])
        valid = " to ".join(end or "..." for end in ends) if any(ends) else "always"
        readers = ", ".join(one["access"]) or "everybody"
        table.add_row(one["id"], readers, valid, "; ".join(one["suspicious"]))
    out.print(table)
    print(f"{len(held):,} documents")


@app.command()
def history(index: Folder, as_json: Json = False) -> None:
    """List the versions, and what each changed."""
    from rich.table import Table

    from luthier.display import out
    from luthier.retrieval.index import Index

    held = Index.open(index).history()
    if as_json:
        _print(held)
        return
    names = ("version", "time", "action", "added", "updated", "removed", "documents", "chunks")
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column("passages" if name == "chunks" else name)
    for change in held:
        # the day and the minute fit a narrow window; --json has it all
        shown = {**change, "time": str(change["time"])[:16].replace("T", " ")}
        table.add_row(*(str(shown[name]) for name in names))
    out.print(table)


@app.command()
def search(
    index: Folder,
    question: Annotated[str, typer.Argument(help="What is looked for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many passages.")] = 5,
    mode: Annotated[str, typer.Option(help="hybrid, rrf, bm25 or vectors.")] = "hybrid",
    rerank: Annotated[bool, typer.Option("--rerank", help="Look at sentences again.")] = False,
    group: Groups = None,
    on: On = None,
    where: Where = None,
    quarantine: Quarantine = False,
    version: Annotated[int | None, typer.Option(help="Search an older version.")] = None,
    as_json: Json = False,
) -> None:
    """Find passages. Documents with access labels are found with --group alone."""
    from typing import cast, get_args

    from luthier.errors import InputError, did_you_mean
    from luthier.retrieval.index import Index
    from luthier.retrieval.passages import Mode

    if mode not in get_args(Mode):
        raise InputError(f"--mode {mode} is not known.", fix=did_you_mean(mode, get_args(Mode)))
    if not question.strip():
        raise InputError("The question is empty.", fix="Say what is looked for.")
    opened = Index.open(index, version=version)
    scope = scope_of(group, on, where, quarantine)
    found = opened.search(question, k, mode=cast(Mode, mode), scope=scope, rerank=rerank)
    if as_json:
        _print([passage.to_dict() for passage in found])
        return
    for number, passage in enumerate(found, 1):
        above = " > ".join(passage.heading)
        place = f"{passage.document}:{passage.start}-{passage.end}"
        print(f"[{number}] {place}  {above}\n{passage.text}")
        if passage.suspicious:
            print(f"    (looks hostile: {'; '.join(passage.suspicious)})")
        print()
    if not found:
        print("Nothing was found.")


def scope_of(
    groups: list[str] | None, on: str | None, where: list[str] | None, quarantine: bool
) -> Scope:
    """The options as a scope.

    Raises:
        InputError: a date or a pair that is none.
    """
    from luthier.errors import InputError
    from luthier.retrieval.passages import Scope

    try:
        day = datetime.date.fromisoformat(on) if on else None
    except ValueError:
        raise InputError(f"--on {on!r} is no date.", fix="Write it as 2026-01-31.") from None
    pairs: dict[str, str] = {}
    for pair in where or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--where {pair!r} is no pair.", fix="Write it as language=en.")
        pairs[key] = value
    return Scope(frozenset(groups or ()), day, pairs, quarantine)


def _told(done: Written, index: str, as_json: bool) -> None:
    change = done.change
    if as_json:
        document = {
            **change.model_dump(exclude={"tables"}),
            "changed": done.changed,
            "refused": [vars(row) for row in done.refused.rows],
            "suspicious": done.suspicious,
            "notes": done.notes,
        }
        _print(document)
        return
    for row in done.refused.rows:
        print(f"left out {row.source}: {row.reason}")
    for note in done.notes:
        print(note)
    if not done.changed:
        print(f"{index}: nothing changed; version {change.version}.")
        return
    counts = {
        "added": change.added,
        "updated": change.updated,
        "removed": change.removed,
        "unchanged": change.unchanged,
    }
    said = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
    print(
        f"{index}: version {change.version}: {said + '; ' if said else ''}"
        f"{change.documents:,} documents, {change.chunks:,} passages."
    )
    if done.suspicious:
        count = sum(done.suspicious.values())
        shown = ", ".join(sorted(done.suspicious)[:5]) + ", ..." * (len(done.suspicious) > 5)
        print(
            f"{count} passage{'s' * (count != 1)} read{'s' * (count == 1)} like instructions to a "
            f"model: {shown}. --quarantine leaves them out of answers."
        )


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
