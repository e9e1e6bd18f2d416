"""`luthier split`: one file into training, validation and test, or folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def split(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Rows in any format.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the files.")],
    given: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FORMAT",
            help="Split the rows of a format (slack, squad, ..., or auto) instead of the file's.",
        ),
    ] = None,
    test: Annotated[float, typer.Option(help="A share of the rows, or how many.")] = 0.1,
    validation: Annotated[
        float, typer.Option(help="A share of the rows, or how many; 0 for no such split.")
    ] = 0.1,
    group: Annotated[str | None, typer.Option(help="Column whose rows stay together.")] = None,
    stratify: Annotated[
        str | None, typer.Option(help="Column every split has its share of.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Column: the newest rows are the test.")] = None,
    text: Annotated[
        str | None, typer.Option("--input", help="Column compared for repeats.")
    ] = None,
    near_duplicates: Annotated[
        bool | None,
        typer.Option(
            "--near-duplicates/--no-near-duplicates",
            help="Keep texts that differ in one word in ten on one side; the default, if possible.",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="So many folds for cross-validation instead.")
    ] = None,
    lock: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Remember there which rows were cut, so that they stay cut when the data grow.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="What the cut depends on.")] = 0,
    refused: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="List the rows that cannot be used there."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, nothing else.")
    ] = False,
) -> None:
    """Cut a file of any size into train, validation and test, no repeat on two sides."""
    from pydantic import ValidationError

    from luthier.data.refused import listed_in
    from luthier.data.split_files import Wish, split_file
    from luthier.display import Display
    from luthier.errors import InputError
    from luthier.task_sections import Split
    from luthier.verbs.refused import show_refused

    try:
        how = Split(
            test=test,
            validation=validation or None,
            stratify=stratify,
            time=time,
            near_duplicates=near_duplicates,
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = "--" + str(first["loc"][0]) if first["loc"] else "--stratify and --time"
        raise InputError(f"{key}: {first['msg'].removeprefix('Value error, ')}.") from None
    if folds is not None and lock is not None:
        raise InputError("--lock keeps a test, and --folds have none.", fix="Leave one out.")
    cuts = ("test", "validation") if validation else ("test",)
    wish = Wish(how, group, text, folds, seed, given, cuts, lock)
    with listed_in(refused) as taken:
        done = split_file(source, Path(), out, wish, Display(), taken)
    if as_json:
        document = {"rows": done.rows, "notes": list(done.notes), "refused": done.refused.count}
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for path, rows in sorted(done.rows.items()):
        print(f"{path}: {rows:,} rows")
    for note in done.notes:
        print(note)
    show_refused(done.refused, refused)
