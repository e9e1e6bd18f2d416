"""`luthier convert`: rows in another format, or in a file of another kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from luthier.data.converting import Converted


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="Rows in any format.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="alpaca, sharegpt, openai, prompt-completion, preference or kto; or csv, json, "
            "jsonl, parquet or arrow, which keeps the columns.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The new file; its ending says what kind it is."),
    ],
    given: Annotated[
        str | None,
        typer.Option("--from", metavar="FORMAT", help="What IN is; told from it by default."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            "--field",
            metavar="ROLE=COLUMN",
            help="Which column is the prompt, the completion, the label, ...; once for each.",
        ),
    ] = None,
    refused: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="List the rows that cannot be used there."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, nothing else.")
    ] = False,
) -> None:
    """Write rows in another format, or in a file of another kind; say what is lost."""
    from luthier.data.converting import convert_file
    from luthier.data.row_plans import Wish
    from luthier.display import Display
    from luthier.verbs.refused import show_refused

    done = convert_file(
        source,
        Path(),
        out,
        Wish(to, given, _roles(columns or [])),
        force=force,
        refused_file=refused,
        reporter=Display(),
    )
    if as_json:
        print(json.dumps(_document(done), indent=2, ensure_ascii=False))
        return
    print(done.read_as)
    print(f"{done.out}: {done.rows:,} rows, {done.written_as}.")
    for what, count in done.lost.most_common():
        print(f"lost: {what} ({count:,})")
    if done.note:
        print(f"note: {done.note}")
    show_refused(done.refused, refused)


def _roles(columns: list[str]) -> dict[str, str]:
    from luthier.errors import InputError

    roles: dict[str, str] = {}
    for text in columns:
        role, equals, column = (part.strip() for part in text.partition("="))
        if not equals or not role or not column:
            raise InputError(f"--map {text!r} is not ROLE=COLUMN.", fix="Write --map prompt=text.")
        if role in roles:
            raise InputError(f"--map names the role {role!r} twice.", fix="Name it once.")
        roles[role] = column
    return roles


def _document(done: Converted) -> dict[str, object]:
    return {
        "out": str(done.out),
        "rows": done.rows,
        "read_as": done.read_as,
        "written_as": done.written_as,
        "lost": dict(done.lost),
        "note": done.note,
        "refused": done.refused.count,
        "reasons": dict(done.refused.reasons),
    }
