"""What several verbs have in common: their options, and what they say at the end."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

TaskFile = Annotated[Path, typer.Argument(metavar="TASK", help="task.yaml, or its folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
Track = Annotated[
    str | None,
    typer.Option(metavar="NAME[:WHERE]", help="Log to mlflow[:URI] or tensorboard[:DIR] too."),
]


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def interrupted(kept: str) -> typer.Exit:
    """Say what is kept and how to go on."""
    again = shlex.join(["luthier", *(word for word in sys.argv[1:] if word != "--resume")])
    said = f"\nluthier: interrupted. {kept} continue with:\n  {again} --resume"
    print(said, file=sys.stderr)
    return typer.Exit(130)
