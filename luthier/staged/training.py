"""Training through all stages of a task, and measuring after each what it did to every task.

```
OUT/stages.json                    which chain this is; written first
OUT/base/answers/STAGE.jsonl       the untuned model's answers to each stage's test
OUT/stages/NAME/{model/, train.json, events.jsonl, answers/STAGE.jsonl}
OUT/matrix.json                    R[i, j] and its sums; a row more after every stage
OUT/forgetting.json                general probes before and after every stage (`forgetting.py`)
OUT/model                          leads to the last stage's model
```

A stage with a train.json is finished; answers are whole files. So after a kill at any moment
`--resume` goes on with the stage, or the test, that was under way.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError, RunError
from luthier.files import disk_errors, read_json, write_json
from luthier.progress import Reporter
from luthier.staged.plan import Ready, chain, check_elsewhere, identity, read
from luthier.staged.scores import BASE, answer_all, row_folder, write_matrix
from luthier.task import Task

if TYPE_CHECKING:
    from luthier.training.stage import StageResult

_PLAN = "stages.json"


def train_stages(
    task: Task,
    *,
    out: str | Path,
    method: str = "lora",
    start: str | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> StageResult:
    """Train the stages of a task one on top of the other; `out` gets matrix.json.

    Args:
        task: has `stages`.
        out: a new folder, or with `resume` one where this chain was begun.
        method: of the stages that name none.
        start: what the first stage tunes instead of the task's model.
        resume: go on.
        reporter: hears of the progress.

    Returns:
        What the last stage came to.

    Raises:
        InputError, ModelError, TrainingError: see their messages.
        RunError: `out` holds something else.
    """
    from luthier.aftermath import probes_of
    from luthier.jobs import started_from, train_prepared
    from luthier.models.tuned import base_record
    from luthier.staged.forgetting import probe, write_forgetting
    from luthier.training.parallel import environment
    from luthier.training.stage import StageResult

    if environment().size > 1:
        raise InputError(
            f"{task.path}: `stages` are trained by one process.",
            fix="Run `luthier train` for each stage by itself, with --from the one before.",
        )
    reporter = reporter or Reporter()
    links = chain(task, method)
    check_elsewhere(task)
    model, base = started_from(task, start)
    model = base_record(model, base).get("model_folder", model)
    probes = probes_of(task)
    ready = read(links)
    folder = Path(out).absolute()
    notes = [*_other_models(task, ready), *(note for one in ready for note in one.notes)]
    _begin(folder, identity(ready, model), ready, resume)
    for note in notes:
        reporter.say(note)
    answer_all(folder, BASE, model, None, ready, reporter)
    probe(folder, BASE, model, None, probes, reporter)
    held = write_matrix(folder, model, ready, notes)
    _say_row(reporter, held, BASE)
    previous = model
    for one in ready:
        place = row_folder(folder, one.link.name)
        if not (place / "train.json").is_file():
            reporter.say(
                f"stage {one.link.name}: {one.link.method} from {_shown(previous, folder)}"
            )
            train_prepared(
                one.link.task,
                one.prepared,
                model=previous,
                base=None,
                method=one.link.method,
                folder=place,
                reporter=reporter,
            )
        else:
            reporter.say(f"stage {one.link.name}: done before")
        answer_all(folder, one.link.name, str(place), None, ready, reporter)
        held = write_matrix(folder, model, ready, notes)
        _say_row(reporter, held, one.link.name)
        probe(folder, one.link.name, str(place), None, probes, reporter)
        lost = write_forgetting(folder, [r.link.name for r in ready], probes, task.seed)
        _say_forgotten(reporter, one.link.name, lost[one.link.name]["since_base"])
        previous = str(place)
    _lead_to(folder, ready[-1].link.name)
    return StageResult(**read_json(row_folder(folder, ready[-1].link.name) / "train.json"))


def _begin(folder: Path, wanted: str, ready: list[Ready], resume: bool) -> None:
    """See that the folder is free for this chain, or holds it already, and say so in it."""
    plan = folder / _PLAN
    if folder.is_dir() and any(folder.iterdir()):
        if not plan.is_file():
            raise RunError(f"{folder} is not empty.", fix="Choose another --out.")
        if read_json(plan).get("identity") != wanted:
            raise RunError(
                f"{folder} holds other stages, or the same ones with other data or settings.",
                fix="Choose another --out.",
            )
        if not resume:
            raise RunError(
                f"{folder} already holds these stages.",
                fix="Add --resume to continue them, or choose another --out.",
            )
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(
        plan,
        {
            "identity": wanted,
            "stages": [
                {
                    "name": one.link.name,
                    "task": str(one.link.task.path),
                    "method": one.link.method,
                }
                for one in ready
            ],
        },
    )


def _other_models(task: Task, ready: list[Ready]) -> list[str]:
    return [
        f"{one.link.name}: its task names the model {one.link.task.model}; all stages tune "
        f"{task.model}."
        for one in ready
        if one.link.task.model != task.model
    ]


def _say_row(reporter: Reporter, held: Any, row: str) -> None:
    scores = held["scores"][held["rows"].index(row)]
    if scores is None:
        return
    told = ", ".join(
        f"{column['name']} {value:.3f}"
        for column, value in zip(held["columns"], scores, strict=True)
    )
    reporter.say(f"{'untuned' if row == BASE else f'after {row}'}: {told}")


def _say_forgotten(reporter: Reporter, row: str, lost: Any) -> None:
    if lost["drop"] is None:
        return
    low, high = lost["interval"]
    reporter.say(
        f"after {row}: general ability lost {100 * lost['drop']:.1f} points "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )


def _lead_to(folder: Path, last: str) -> None:
    """OUT/model leads to the last stage's model, so OUT itself can be evaluated and served."""
    link = folder / "model"
    if not link.is_symlink():
        with contextlib.suppress(OSError):  # a file system without links: the stage's folder serves
            link.symlink_to(Path("stages") / last / "model", target_is_directory=True)


def _shown(name: str, folder: Path) -> str:
    try:
        return str(Path(name).relative_to(folder))
    except ValueError:
        return name
