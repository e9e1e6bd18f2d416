"""`luthier run`: every way of doing a task on one locked test, and a verdict."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.files import short
from luthier.verbs.options import Json, TaskFile, Track, interrupted, print_json

if TYPE_CHECKING:
    from luthier.examine import Examined


def run(
    task: TaskFile,
    out: Annotated[Path | None, typer.Option(help="The run folder; by default runs/NAME.")] = None,
    arms: Annotated[
        str | None, typer.Option(help="Names, separated by commas, instead of the task's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the task's.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget, instead of the task's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an earlier run.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Go on in spite of data errors.")
    ] = False,
    tune: Annotated[
        int | None,
        typer.Option(min=1, help="Settings each tuned arm tries on validation (needs optuna)."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, max=20, help="Fits of arms that depend on chance; the mean counts."),
    ] = None,
    learning_curve: Annotated[
        bool | None,
        typer.Option(help="Fit on parts of the data, to tell whether more of it would help."),
    ] = None,
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Compare every way of doing a task on one locked test, and give a verdict."""
    from luthier import display
    from luthier.comparing import run as compare
    from luthier.errors import InputError

    reporter = display.Display()

    def warn(examined: Examined) -> None:
        from luthier.display_check import warn as show

        show(display.err, examined)
        if examined.ok or yes:
            return
        if sys.stdin.isatty():
            typer.confirm("The data has errors. Go on all the same?", abort=True, err=True)
        else:
            raise InputError(
                f"{task}: the data has errors, named above.",
                fix="Mend them, or go on all the same with --yes.",
            )

    names = None if arms is None else [name.strip() for name in arms.split(",") if name.strip()]
    try:
        done = compare(
            task,
            out=out,
            arms=names,
            seed=seed,
            minutes=minutes,
            resume=resume,
            reporter=reporter,
            warn=warn,
            command=shlex.join(["luthier", *sys.argv[1:]]),
            tune=tune,
            seeds=seeds,
            learning_curve=learning_curve,
            track=track,
        )
    except KeyboardInterrupt:
        raise interrupted("What is finished is kept;") from None
    if as_json:
        print_json(done.verdict)
        return
    display.verdict(done.verdict)
    folder = short(done.folder)
    print(f"\nReport: {folder / 'report.html'}")
    if done.finished_arms():
        print(f"Next:   luthier serve {folder}")
