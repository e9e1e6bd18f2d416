"""`luthier ask`: what the documents of an index say, with citations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from luthier.verbs.index import Folder, Groups, On, Quarantine, Where, scope_of
from luthier.verbs.options import Json


def ask(
    index: Folder,
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    model: Annotated[
        str, typer.Option(help="Who reads: a catalogue name, folder, run or hub id.")
    ] = "smollm2-135m-instruct",
    k: Annotated[int, typer.Option("-k", min=1, help="Passages the model is given.")] = 3,
    form: Annotated[str, typer.Option(help="How it is asked: short, cited, question first.")] = (
        "short"
    ),
    group: Groups = None,
    on: On = None,
    where: Where = None,
    quarantine: Quarantine = False,
    quote: Annotated[
        bool,
        typer.Option(
            "--quote/--no-quote",
            help="Answer with the nearest sentence where the model's own words are not in it.",
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """Answer a question from documents, with citations; or say that they do not."""
    from luthier.errors import InputError, did_you_mean
    from luthier.models.pool import ModelPool
    from luthier.retrieval.asking import ask as ask_index
    from luthier.retrieval.grounding import FORMS
    from luthier.retrieval.index import Index

    if form not in FORMS:
        raise InputError(f"--form {form} is not known.", fix=did_you_mean(form, FORMS))
    if not question.strip():
        raise InputError("The question is empty.", fix="Ask something.")
    opened = Index.open(index)
    scope = scope_of(group, on, where, quarantine)
    generator = ModelPool(Path()).generator(model)
    asked = ask_index(opened, question, generator, k=k, scope=scope, form=form, quote=quote)
    if as_json:
        print(json.dumps(asked.to_dict(), indent=2, ensure_ascii=False))
        return
    print(asked.answer)
    if asked.abstained:
        print(f"({asked.why})")
        if asked.passages:
            print("\nNearest passages:")
        for passage in asked.passages:
            print(f"  {passage.document}:{passage.start}-{passage.end}  {_short(passage.text)}")
        return
    if asked.quoted:
        print("(the nearest sentence: the model's own words are not in it)")
    print()
    for number, citation in enumerate(asked.citations, 1):
        print(f"[{number}] {citation.document}:{citation.start}-{citation.end}")
        print(f"    {citation.text}")


def _short(text: str, longest: int = 90) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else flat[: longest - 3] + "..."
