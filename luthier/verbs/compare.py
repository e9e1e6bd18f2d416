"""`luthier compare`: several runs on one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

PAGE = "compare.html"


def compare(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN RUN...", help="Folders of finished runs.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"The page; by default {PAGE} in this folder."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON document; a page only with --out."),
    ] = False,
) -> None:
    """Put several runs on one page: what differs, and whose arms are better."""
    from luthier.across.comparing import compare_runs
    from luthier.across.page import write_page
    from luthier.errors import InputError

    if out is not None and out.is_dir():
        raise InputError(f"--out {out} is a folder.", fix=f"Name a file, such as {out / PAGE}.")
    found = compare_runs(runs or [])
    path = out or (None if as_json else Path(PAGE))
    if path is not None:
        write_page(found, path)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    from luthier.display_across import show

    show(found)
    print(f"\nPage: {path}")
