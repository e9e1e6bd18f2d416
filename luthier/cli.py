"""The verbs. This file parses and prints; it decides nothing.

Exit codes: 0 done; 1 the answer is no (findings that forbid training); 2 wrong use, with one clear
line; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from luthier.errors import LuthierError
from luthier.verbs import index, templates
from luthier.verbs.ask import ask
from luthier.verbs.check import check
from luthier.verbs.compare import compare
from luthier.verbs.convert import convert
from luthier.verbs.mix import mix
from luthier.verbs.options import Json, TaskFile, Track, interrupted, print_json
from luthier.verbs.redact import redact
from luthier.verbs.run import run
from luthier.verbs.serve import serve
from luthier.verbs.split import split

app = typer.Typer(
    name="luthier",
    help="Tunes a language model to a task, and shows whether that was the right thing to do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Entry point: turns errors into one clear line and an exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    works = {"run", "train", "evaluate", "serve"} & set(sys.argv[1:2])
    if works and "--help" not in sys.argv:
        _share_a_busy_machine()
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    try:
        # outside standalone mode an Exit is returned as its code instead of being raised
        code = app(prog_name="luthier", standalone_mode=False)
    except LuthierError as error:
        _stop(error.message, error.fix)
    except (KeyboardInterrupt, typer.Abort):
        print("\nluthier: interrupted.", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _stop(f"{where}{error.strerror or error}.", "")
    except Exception as error:
        # wrong use of the command line itself: typer's own exceptions know how to show themselves
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # `luthier` alone: the message is the help
            print(error.format_message(), file=sys.stderr)
            sys.exit(2)
        _stop(error.format_message(), "See `luthier --help`.")
    sys.exit(code if isinstance(code, int) else 0)


def _share_a_busy_machine() -> None:
    """Where others compute, let threads that wait sleep.

    Spinning threads are quicker on a machine of one's own (1.6 against 2.5 s for a training step
    on two cores) and many times slower beside another busy process (14 against 2.8 s). It must be
    decided before torch is loaded.
    """
    import psutil

    if psutil.cpu_percent(interval=0.15) > 35 and "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        print("The machine is busy: this takes longer than it says.", file=sys.stderr)


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


def _stop(message: str, fix: str) -> NoReturn:
    print(f"luthier: {message}" + (f"\n  {fix}" if fix else ""), file=sys.stderr)
    sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from luthier import __version__

        print(f"luthier {__version__}")
        raise typer.Exit


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new task folder.")],
    kind: Annotated[str, typer.Option(help="The kind of task.")] = "classification",
) -> None:
    """Make a new task folder with a small example."""
    from luthier.starters import write_starter

    for path in write_starter(kind, folder):
        print(path)
    print(f"\nNext: luthier check {folder}\n      luthier run {folder}")


app.command()(check)
app.command()(run)
app.command()(compare)
app.command()(split)
app.command()(redact)
app.command()(convert)
app.command()(mix)
app.add_typer(templates.app)
app.add_typer(index.app)
app.command()(ask)


@app.command()
def train(
    task: TaskFile,
    out: Annotated[Path, typer.Option(help="Gets model/, train.json and events.jsonl.")],
    method: Annotated[str, typer.Option(help="How: lora, qlora, full, last-layers, ...")] = "lora",
    start: Annotated[
        str | None,
        typer.Option("--from", help="A model, an earlier stage or a run to go on from."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue where it stopped.")] = False,
    find_rate: Annotated[
        bool,
        typer.Option("--find-rate", help="Only look for a learning rate; a minute, no model."),
    ] = False,
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Train on a task's training examples; where the task has stages, through all of them."""
    from luthier.display import Display
    from luthier.jobs import train as run_stage
    from luthier.training.parallel import environment

    if find_rate:
        _find_rate(task, out, method, start, as_json)
        return
    try:
        result = run_stage(
            task,
            out=out,
            method=method,
            start=start,
            resume=resume,
            reporter=Display(),
            track=track,
        )
        if environment().rank:  # one of several processes speaks
            return
    except KeyboardInterrupt:
        raise interrupted("Checkpoints are kept;") from None
    from luthier import display

    if (matrix := out / "matrix.json").is_file():  # the task has stages
        from luthier.files import read_json

        held = read_json(matrix)
        if as_json:
            print_json(held)
            return
        display.matrix(held)
        print(f"\nNext: luthier evaluate {out / 'stages' / held['rows'][-1]} {task}")
        return
    if as_json:
        print_json(result.to_dict())
        return
    display.stage(result, out)
    print(f"\nNext: luthier evaluate {out} {task}")


def _find_rate(task: Path, out: Path, method: str, start: str | None, as_json: bool) -> None:
    from luthier.display import Display, range_test
    from luthier.rate_finding import find_rate

    found = find_rate(task, out=out, method=method, start=start, reporter=Display())
    if as_json:
        print_json(found.to_dict())
        return
    range_test(found)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL_OR_RUN", help="What is scored.")],
    task: TaskFile,
    as_json: Json = False,
) -> None:
    """Score one model, training stage or run on a task's test."""
    from luthier.display import Display
    from luthier.jobs import evaluate as score
    from luthier.task import Task
    from luthier.verdict.formatting import percent, words

    loaded = Task.load(task)
    arm = score(model, loaded, reporter=Display())
    if as_json:
        print_json(arm)
        return
    low, high = arm["interval"]
    print(
        f"{arm['name']}: {words(loaded.chosen_by)} {percent(arm['score'])} "
        f"(95 % interval {percent(low)} to {percent(high)}), "
        f"invalid {percent(arm['invalid_rate'])}"
    )
    for name, value in arm["metrics"].items():
        print(f"  {words(name)}: {value:.4f}")


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Rebuild report.html from a run folder."""
    from luthier.measures import complete
    from luthier.runs import Run
    from luthier.verdict.report import build_report

    run = Run.open(folder)
    if complete(run):
        print("verdict.json of this older run: slices, calibration and costs were added.")
    print(build_report(run.folder))


app.command()(serve)


@app.command()
def models(as_json: Json = False) -> None:
    """List the models of the catalogue, and what fits this machine."""
    from luthier.models.doctor import catalogue_table

    rows = catalogue_table()
    if as_json:
        print_json(rows)
        return
    from luthier.display import models_table

    models_table(rows)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is wrong here, and how to mend it."""
    from luthier.models.doctor import checkup

    checks = checkup()
    if as_json:
        print_json(
            [{"name": c.name, "ok": c.ok, "message": c.message, "fix": c.fix} for c in checks]
        )
    else:
        for one in checks:
            print(f"{'ok ' if one.ok else 'NO '} {one.name}: {one.message}")
            if not one.ok and one.fix:
                print(f"     {one.fix}")
    if not all(one.ok for one in checks):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
