"""`luthier redact`: personal data out of files, and back into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from luthier.data.privacy.redacting import Rewritten


def redact(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Rows, or .txt and .md.")],
    out: Annotated[Path, typer.Option(help="A new file; a folder for several files.")],
    table: Annotated[
        Path | None,
        typer.Option("--map", help="The table of pseudonyms: made or added to. Keep it secret."),
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(help="Kinds (EMAIL) or levels (secret, identifier, person, detail, all)."),
    ] = None,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="Confidence from which on a value is replaced.")
    ] = 0.5,
    presidio: Annotated[
        bool, typer.Option("--presidio", help="Ask Microsoft Presidio too (English).")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring the values back.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, nothing else.")
    ] = False,
) -> None:
    """Replace personal data by pseudonyms, and secrets for good; --undo brings the data back."""
    from luthier.data.privacy.finding import chosen_types, kinds
    from luthier.data.privacy.pseudonyms import Pseudonyms, check_apart, table_at
    from luthier.data.privacy.redacting import Wish, redact_files, restore_files
    from luthier.data.privacy.rewriting import outputs
    from luthier.display import Display
    from luthier.errors import InputError

    names = types.split(",") if types else ["secret", "identifier", "person"]
    wish = Wish(chosen_types(names), least, presidio)
    outs = outputs(files, out)
    place = table.expanduser() if table is not None else None
    if undo:
        if place is None:
            raise InputError("--undo needs the table of pseudonyms.", fix="Name it with --map.")
        done = restore_files(files, outs, Pseudonyms.load(place), Display())
    elif place is not None:
        check_apart(place, [*(Path(file).expanduser() for file in files), *outs])
        with table_at(place) as pseudonyms:
            done = redact_files(
                files, outs, pseudonyms, wish, lambda: pseudonyms.save(place), Display()
            )
    elif all(kinds()[name].level == "secret" for name in wish.types):
        done = redact_files(files, outs, Pseudonyms(), wish, lambda: None, Display())
    else:
        raise InputError(
            "Pseudonyms need a table that leads back to the values.",
            fix="Say where it is kept: --map ~/.luthier/pseudonyms/NAME.json; or take out secrets "
            "alone: --types secret",
        )
    if as_json:
        print(json.dumps(_document(done, place), indent=2, ensure_ascii=False))
    else:
        _show(done, place, undo)


def _document(done: Rewritten, table: Path | None) -> dict[str, object]:
    return {
        "files": done.files,
        "logs": done.logs,
        "replaced": dict(sorted(done.counts.items())),
        "restored": done.restored,
        "unknown": done.unknown,
        "map": None if table is None else str(table),
    }


def _show(done: Rewritten, table: Path | None, undo: bool) -> None:
    from luthier.data.linting import number
    from luthier.data.privacy.finding import kinds
    from luthier.data.privacy.rewriting import TEXTS

    for path, rows in done.files.items():
        print(f"{path}: {number(rows, 'text' if path.lower().endswith(TEXTS) else 'row')}")
    if undo:
        print(f"{number(done.restored, 'value')} brought back.")
        if done.unknown:
            print(f"{number(done.unknown, 'pseudonym')} left, which {table} does not hold.")
        return
    known = kinds()
    said = ", ".join(known[name].counted(count) for name, count in done.counts.most_common())
    print(f"replaced: {said or 'nothing was found'}")
    for log in done.logs:
        print(f"log: {log}")
    if table is not None:
        print(f"table: {table} (only you can read it; without it nothing comes back)")
    print("Texts were searched; what is stored as a number, and the names of columns, were not.")
    print("No detector finds everything: look at the new files before you pass them on.")
