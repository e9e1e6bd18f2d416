"""`luthier serve`: arms of a run, a stage, a model or an index behind an OpenAI-compatible API."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

import typer


def serve(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL",
            help="A run, a training stage, a model; or an index of documents.",
        ),
    ],
    port: Annotated[int, typer.Option(help="Where to listen.")] = 8000,
    host: Annotated[str, typer.Option(help="Which address to listen on.")] = "127.0.0.1",
    api_key: Annotated[
        str | None,
        typer.Option(help="Ask clients for this key.", envvar="LUTHIER_API_KEY"),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A group whose documents clients may read, in place of those of the run's task; "
            "may be repeated.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Of an index: who reads; a catalogue name, folder or hub id."),
    ] = None,
    quarantine: Annotated[
        bool,
        typer.Option(
            "--quarantine", help="Of an index: leave out passages that speak to the model."
        ),
    ] = False,
    quote: Annotated[
        bool,
        typer.Option(
            "--quote/--no-quote",
            help="Of an index: where the model's words are not in the documents, quote a sentence.",
        ),
    ] = True,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="Several keys, each with its groups."),
    ] = None,
) -> None:
    """Serve a run's recommended arm (or any of its arms by name) as an OpenAI-compatible API.

    An index of documents is served without a run: it answers as `luthier ask` does.

    Arms that read documents say what an answer rests on in `message.context`, and read the index
    as it is when they are asked. What may be read is decided here; a request may only name fewer
    groups (`access_groups`).
    """
    from luthier.errors import InputError
    from luthier.serving.access import Access, read_keys
    from luthier.serving.app import create_app
    from luthier.serving.offer import groups_of, offer
    from luthier.serving.server import serve as listen

    if keys is not None and (api_key is not None or group):
        raise InputError(
            "--keys says which keys there are, and the groups of each.",
            fix="Leave --api-key, LUTHIER_API_KEY and --group out.",
        )
    servables, default = offer(name, model, quarantine, quote)
    given: Mapping[str, Collection[str] | None] | None = None
    own = frozenset(group) if group else groups_of(name)
    if keys is not None:
        given = read_keys(keys)
        if keys.stat().st_mode & 0o077:
            print(f"luthier: others can read {keys}: chmod 600 {keys}", file=sys.stderr)
    elif api_key is not None:
        given = {api_key: own}
    if keys is None and own:
        print(f"Whoever asks reads as {', '.join(sorted(own))}.", flush=True)
    listen(
        create_app(servables, default, access=Access(given, own)),
        host=host,
        port=port,
        ready=lambda url: print(
            f"Serving {default} at {url} (model names: {', '.join(servables)}). Ctrl-C stops it.",
            flush=True,
        ),
    )
