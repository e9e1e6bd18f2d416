"""`luthier templates`: what the template library holds, what fits a file, and what it makes of it.

This file parses; `templates_display` prints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.verbs.options import Json

if TYPE_CHECKING:
    from luthier.data.instruction_data import Built, Open
    from luthier.data.reading import SourceRow
    from luthier.data.refused import Refused

app = typer.Typer(
    name="templates",
    help="Turn tables into instruction data with the template library.",
    add_completion=False,
    rich_markup_mode=None,
)

File = Annotated[str, typer.Argument(metavar="FILE", help="A file of rows, a folder, or hub:...")]
Mapped = Annotated[
    list[str] | None,
    typer.Option(
        "--field", metavar="FIELD=COLUMN", help="Which column is a field; may be repeated."
    ),
]
Format = Annotated[
    str | None, typer.Option(metavar="NAME", help="The file's format, where it is told wrongly.")
]


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_templates()


@app.command("list")
def list_templates(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Show what fits this file.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Only this group of tasks.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also all that may fit, and what the others lack.")
    ] = False,
    format: Format = None,
    as_json: Json = False,
) -> None:
    """List the library, or with a file the templates that fit its columns."""
    from luthier.data.template_evidence import look
    from luthier.data.template_library import groups
    from luthier.data.template_matching import match_all
    from luthier.errors import InputError, did_you_mean
    from luthier.verbs import templates_display as show

    held = groups()
    if group is not None:
        if group not in held:
            raise InputError(f"There is no group {group!r}.", fix=did_you_mean(group, held))
        held = {group: held[group]}
    if file is None:
        if as_json:
            _print([template.to_dict() for kept in held.values() for template in kept])
        else:
            show.library(held)
        return
    sentence, open_rows = _open(file, format)
    columns = look(open_rows(None))
    fits = [fit for fit in match_all(columns) if fit.template.group in held]
    if as_json:
        _print([{**fit.to_dict(), "about": fit.template.about} for fit in fits])
        return
    show.fits(sentence, file, columns, fits, every)


@app.command("show")
def show_template(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A template.")],
    as_json: Json = False,
) -> None:
    """Show a template: the fields it needs, its phrasings, an example."""
    from luthier.data.template_library import library_template
    from luthier.verbs import templates_display as show

    template = library_template(name, "templates show")
    if as_json:
        _print(template.to_dict())
    else:
        show.template(template)


@app.command("try")
def try_template(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A template.")],
    file: File,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many rows to write.")] = 3,
    phrasing: Annotated[
        str | None,
        typer.Option(metavar="NAME|NUMBER|all", help="In which wording; else each row its own."),
    ] = None,
    field: Mapped = None,
    seed: Annotated[int, typer.Option(help="What chooses the phrasing of a row.")] = 0,
    format: Format = None,
    as_json: Json = False,
) -> None:
    """Write the first rows of a file with a template; input and output are shown apart."""
    from luthier.data.template_evidence import SAMPLE, look
    from luthier.data.template_library import library_template
    from luthier.data.template_matching import bind, match
    from luthier.data.template_trial import try_rows
    from luthier.verbs import templates_display as show

    template = library_template(name, "templates try")
    sentence, open_rows = _open(file, format)
    held = list(islice(open_rows(None), max(SAMPLE, rows)))
    columns = look(held)
    given = _mapping(field)
    where = bind(template, columns, given, template.name, file)
    tried = try_rows(template, held, where, rows, phrasing, seed, open_rows(None))
    if as_json:
        _print({"template": template.name, "version": template.version, **tried.to_dict()})
        return
    show.trial(sentence, match(template, columns, given), tried)


@app.command("build")
def build_data(
    file: File,
    out: Annotated[Path, typer.Option(metavar="DATA.jsonl", help="The file that is written.")],
    templates: Annotated[
        str, typer.Option(metavar="A,B|auto", help="Names, or auto for all that fit.")
    ] = "auto",
    per_row: Annotated[
        str, typer.Option(metavar="K|all", help="Templates that a row goes through.")
    ] = "all",
    weights: Annotated[
        str | None, typer.Option(metavar="NAME=2,...", help="Shares, with --per-row K.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="What belongs together; else equal texts."),
    ] = None,
    field: Mapped = None,
    seed: Annotated[int, typer.Option(help="What is drawn depends on it.")] = 0,
    format: Format = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Turn one table into instruction data for every task that its columns allow."""
    from luthier.data.instruction_data import build, choose
    from luthier.data.refused import Refused
    from luthier.data.template_evidence import look
    from luthier.display import Display
    from luthier.errors import InputError
    from luthier.verbs import templates_display as show

    if out.suffix.lower() != ".jsonl":
        raise InputError(f"{out} does not end in .jsonl, which is what is written.")
    source = Path(file).expanduser()
    if source.exists() and out.exists() and out.resolve() == source.resolve():
        raise InputError(f"{out} is the source itself.", fix="Name another file as --out.")
    if out.exists() and not force:
        raise InputError(f"{out} exists.", fix="Name another file, or replace it with --force.")
    sentence, open_rows = _open(file, format)
    columns = look(open_rows(Refused()))
    names = None if templates.strip() == "auto" else _names(templates)
    chosen = choose(names, columns, _mapping(field), file)
    built: Built = build(
        open_rows,
        out,
        chosen,
        columns,
        per_row=_count(per_row),
        weights=_weights(weights),
        group=group,
        seed=seed,
        reporter=Display(),
    )
    if as_json:
        _print({"out": str(out), **built.to_dict()})
    else:
        show.built(sentence, out, chosen, built)


def _open(file: str, format: str | None) -> tuple[str, Open]:
    """(what the file is read as, what opens it).

    Conversations in one column, which most formats make of rows, are finished: of those the
    file's own columns are what templates read. SQuAD, CoNLL and the like have none before.
    """
    from luthier.data.format import detect
    from luthier.data.reading import stream_rows

    said = detect(file, Path(), format=format)
    sentence, wanted = said.sentence, format
    if format is None and said.format is not None:
        if said.recipe is not None and said.recipe.messages is not None:
            columns = ", ".join(said.columns[:8]) + ", ..." * (len(said.columns) > 8)
            sentence = f"{file}: read as a table ({columns})."
        else:
            wanted = said.format.name

    def open_rows(refused: Refused | None) -> Iterator[SourceRow]:
        return stream_rows(file, Path(), format=wanted, refused=refused)

    return sentence, open_rows


def _mapping(said: list[str] | None) -> dict[str, str]:
    from luthier.errors import InputError

    found = {}
    for pair in said or []:
        name, equals, column = pair.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise InputError(
                f"`--field` is {pair!r}.", fix="Write FIELD=COLUMN, as in --field text=body."
            )
        found[name.strip()] = column.strip()
    return found


def _names(text: str) -> list[str]:
    from luthier.errors import InputError

    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError("`--templates` names none.", fix="Name some, or write auto.")
    return names


def _count(text: str) -> int | None:
    from luthier.errors import InputError

    if text == "all":
        return None
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"`--per-row` is {text!r}.", fix="Give a whole number from 1, or all.")
    return int(text)


def _weights(text: str | None) -> dict[str, float]:
    from luthier.errors import InputError

    found = {}
    for pair in _names(text) if text else []:
        name, _, number = pair.partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not 0 < weight < 1e9:
            raise InputError(
                f"`--weights` holds {pair!r}.", fix="Write NAME=NUMBER with a number above 0."
            )
        found[name.strip()] = weight
    return found


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))
