"""`luthier mix`: several sources into one file, each with its share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from luthier.verbs.options import Json, print_json

if TYPE_CHECKING:
    from luthier.data.mixing import MixedFile, MixSource

N = TypeVar("N", int, float)


def mix(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]FILE...", help="Rows in any format; a name for each."),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The new file; its ending says what kind it is.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Bring all rows to openai, alpaca, sharegpt, prompt-completion, ...; "
            "without it each keeps its columns.",
        ),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=W", help="Share of the draws; others count 1. Once for each."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Shares by rows^(1/T): 1 by the rows, more is closer to equal."),
    ] = None,
    cap: Annotated[
        int | None, typer.Option(min=1, help="The most rows a source counts for in its share.")
    ] = None,
    most: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Use the first N rows of a source. Once for each."),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="How many to draw; else as many as come without a repeat."),
    ] = None,
    buffer: Annotated[
        int, typer.Option(min=1, help="Rows of each source that are held and drawn from.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="What the order depends on.")] = 0,
    source_column: Annotated[
        str, typer.Option(metavar="NAME", help="Column with the name of each row's source.")
    ] = "source",
    no_source_column: Annotated[
        bool, typer.Option("--no-source-column", help="No such column.")
    ] = False,
    refused: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="List the rows that cannot be used there."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    as_json: Json = False,
) -> None:
    """Mix sources of any size into one file, by weights or by size and temperature."""
    from luthier.data.mixing import MixWish, mix_files
    from luthier.data.refused import listed_in
    from luthier.display import Display
    from luthier.verbs.refused import show_refused

    wish = MixWish(
        to=to,
        temperature=temperature,
        cap=cap,
        rows=rows,
        seed=seed,
        buffer=buffer,
        column=None if no_source_column else source_column,
    )
    given = _sources(sources, weight or [], most or [])
    with listed_in(refused) as taken:
        done = mix_files(given, Path(), out, wish, force=force, reporter=Display(), refused=taken)
    if as_json:
        print_json(
            {
                "out": str(done.out),
                "rows": done.rows,
                "sources": [asdict(one) for one in done.sources],
                "lost": dict(done.lost),
                "refused": done.refused.count,
                "reasons": dict(done.refused.reasons),
            }
        )
        return
    _show(done)
    show_refused(done.refused, refused)


def _sources(texts: list[str], weights: list[str], most: list[str]) -> list[MixSource]:
    from luthier.data.mixing import MixSource, by_name

    named = [_named(text) for text in texts]
    names = [name for name, _ in named]
    weight_of = _numbers(weights, "--weight", float)
    most_of = _numbers(most, "--most", int)
    by_name(weight_of, names, "--weight")
    by_name(most_of, names, "--most")
    return [
        MixSource(name, source, weight_of.get(name), most_of.get(name)) for name, source in named
    ]


def _named(text: str) -> tuple[str, str]:
    """(name, source) of NAME=FILE, or of FILE, whose name without its ending it is."""
    name, equals, source = text.partition("=")
    if equals and name.strip() and not Path(text).exists() and "/" not in name:
        return name.strip(), source.strip()
    return Path(text).stem or text, text


def _numbers(texts: list[str], option: str, kind: Callable[[str], N]) -> dict[str, N]:
    from luthier.errors import InputError

    found: dict[str, N] = {}
    for text in texts:
        name, _, number = (part.strip() for part in text.rpartition("="))
        if name in found:
            raise InputError(f"{option} names {name!r} twice.", fix="Name it once.")
        try:
            found[name] = kind(number)
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"{option} {text!r} is not NAME=NUMBER.", fix=f"Write {option} a=2.")
    return found


def _show(done: MixedFile) -> None:
    for one in done.sources:
        print(one.read_as)
    head = ("source", "rows", "share", "drawn", "each row", "characters a row")
    table = [head] + [
        (
            one.name,
            f"{one.rows:,}",
            f"{100 * one.share:.1f} %",
            f"{one.draws:,}",
            f"{one.epochs:.2f} times",
            f"{one.characters:,.0f}",
        )
        for one in done.sources
    ]
    widths = [max(len(line[place]) for line in table) for place in range(len(head))]
    for line in table:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
    print(f"{done.out}: {done.rows:,} rows.")
    for what, count in done.lost.most_common():
        print(f"lost: {what} ({count:,})")
