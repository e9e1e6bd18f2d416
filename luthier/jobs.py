"""The jobs besides the comparison: one training stage, and the score of one model."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.prepare import prepare
from luthier.errors import LuthierError, ModelError, RunError
from luthier.files import disk_errors, write_json
from luthier.progress import Reporter
from luthier.runs import Run, disk_is_full
from luthier.task import Task

if TYPE_CHECKING:
    from luthier.arms.base import Answerer
    from luthier.data.examples import Example
    from luthier.models.pool import ModelPool
    from luthier.training.stage import StageResult


#: How long an answer may get when there is no task to tell.
_MOST_NEW_TOKENS = 256


class _Events(Reporter):
    """Passes everything on, and writes events to a file."""

    def __init__(self, inner: Reporter, path: Path) -> None:
        self.work = inner.work  # type: ignore[method-assign]
        self.say = inner.say  # type: ignore[method-assign]
        self._path = path

    def event(self, kind: str, **values: object) -> None:
        """A line of events.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": kind, **values}, default=str)
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as events:
            events.write(line + "\n")


def train(
    task: Task | str | Path,
    *,
    out: str | Path,
    method: str = "lora",
    start: str | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> StageResult:
    """Train one stage on a task's training examples; the test is not touched.

    Args:
        task: a task, or the path of its file.
        out: gets model/, train.json and events.jsonl.
        method: a name in `training.method.METHODS`, such as "lora" or "full".
        start: what is tuned instead of the task's model: a model, the folder of an earlier stage,
            or a run (then its recommended arm, which must be a tuned one).
        resume: continue an interrupted stage in `out`.
        reporter: hears of the progress.

    Raises:
        InputError: an unknown method, or data that cannot be used.
        RunError: `out` is taken.
        ModelError: the model cannot be found or loaded.
    """
    from luthier.models.tuned import base_record
    from luthier.training.method import METHODS
    from luthier.training.stage import train_stage

    task = task if isinstance(task, Task) else Task.load(task)
    METHODS.get(method)  # a method that nobody knows is told at once
    folder = Path(out)
    if (folder / "train.json").is_file():
        raise RunError(
            f"{folder} already holds a finished training stage.", fix="Choose another --out."
        )
    if folder.is_dir() and any(folder.iterdir()) and not resume:
        raise RunError(
            f"{folder} is not empty.",
            fix="Add --resume to continue an interrupted stage there, or choose another --out.",
        )
    model, base = (start, None) if start else (task.model, task.folder)
    if start and (stored := _trained_folder(Path(start))):
        model = str(stored.absolute())
    base_record(model or task.model, base)  # a name that nothing answers to is told at once
    prepared = prepare(task)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        result = train_stage(
            model_name=model or task.model,
            base=base,
            instruction=task.instruction,
            examples=prepared.splits.train,
            wishes=task.training,
            method=method,
            seed=task.seed,
            folder=folder,
            reporter=_Events(reporter or Reporter(), folder / "events.jsonl"),
        )
    except LuthierError:
        raise
    except Exception as error:
        if not disk_is_full(error):
            raise
        raise RunError(
            f"The disk is full: the model could not be stored in {folder}.",
            fix="Free some space; checkpoints are kept, and --resume continues.",
        ) from error
    write_json(folder / "train.json", result.to_dict())
    return result


@dataclass(frozen=True)
class Opened:
    """A model, a training stage or a run's arm, ready to answer."""

    name: str
    answerer: Answerer


def open_any(
    name: str, pool: ModelPool, task: Task | None = None, train: Sequence[Example] = ()
) -> Opened:
    """Open whatever `name` is: a run (its recommended arm), a training stage, or a model.

    Args:
        name: a folder, a catalogue name or a hub id.
        pool: for models that can be shared.
        task: gives a bare model its instruction.
        train: the task's training examples: how long answers may get.

    Raises:
        RunError, ModelError: nothing that can answer is there.
    """
    from luthier.arms.prompted import PromptedAnswerer, Reading, longest_answer
    from luthier.arms.tuned import open_tuned
    from luthier.models.heads import stop_ids
    from luthier.prompts.prompt import Prompt

    folder = Path(name)
    if (folder / "manifest.json").is_file():
        run = Run.open(folder)
        arm = recommended(run)
        return Opened(arm, run.answerer(arm, pool))
    reading = Reading(max_new_tokens=_MOST_NEW_TOKENS)
    shown = folder.resolve().name if folder.is_dir() else name
    if stored := _trained_folder(folder):
        answerer = open_tuned(shown, stored, reading, task=task, labels=None, pool=pool)
    else:
        loaded = pool.causal(name)
        answerer = PromptedAnswerer(
            shown,
            pool.generator(name),
            Prompt(
                loaded.tokenizer,
                instruction=task.instruction if task else "",
                stop_ids=stop_ids(loaded.model),
            ),
            reading,
            task=task,
            context_length=loaded.context_length,
        )
    if task is not None and train:  # as the arms of a run do
        most = longest_answer(task, answerer.prompt, train)
        answerer.reading = Reading(max_new_tokens=most)
    return Opened(shown, answerer)


def recommended(run: Run) -> str:
    """The arm a run recommends; where it recommends none, the best, a floor only if alone.

    Raises:
        RunError: no arm finished.
    """
    name = run.verdict.get("recommendation")
    if name:
        return str(name)
    scored = [arm for arm in run.verdict["arms"] if arm["score"] is not None]
    if not scored:
        raise RunError(f"{run.folder}: no arm finished, so there is nothing to answer with.")
    return str(max(scored, key=lambda arm: (not arm.get("floor"), arm["score"]))["name"])


def evaluate(
    model: str | Path, task: Task | str | Path, *, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Score one model, training stage or run on a task's test.

    Returns:
        One arm object as in verdict.json.

    Raises:
        InputError, ModelError, RunError: see their messages.
    """
    from luthier.arms.prompted import conversations
    from luthier.comparing import clusters_of
    from luthier.evaluation.scoring import ScoringRows, deciding_metric, metrics_for, score
    from luthier.models.machine import PeakMemory
    from luthier.models.pool import ModelPool
    from luthier.verdict.compare import ArmResult, compare
    from luthier.verdict.document import arm_object

    task = task if isinstance(task, Task) else Task.load(task)
    reporter = reporter or Reporter()
    metric = deciding_metric(task.scored_by, task.kind)
    prepared = prepare(task)
    test = prepared.splits.test
    with PeakMemory() as memory:
        opened = open_any(str(model), ModelPool(), task, prepared.splits.train)
        with reporter.work(f"{opened.name}: answering the test", len(test)) as bar:
            started = time.perf_counter()
            answers = opened.answerer.answer(conversations(test), progress=bar.advance)
            seconds = (time.perf_counter() - started) / len(test)
    rows = ScoringRows(
        kind=task.kind,
        inputs=[e.input for e in test],
        references=[e.output for e in test],
        predictions=[a.text for a in answers],
        labels=prepared.labels,
    )
    scored = score(metric.name, rows)
    result = ArmResult(
        opened.name,
        scored.statistics,
        row_scores=scored.row_scores,
        invalid_rate=scored.invalid_rate,
        costs={
            "seconds_per_answer": seconds,
            "prompt_tokens_per_answer": sum(a.prompt_tokens for a in answers) / len(answers),
            "peak_memory_bytes": memory.bytes,
        },
        metrics={name: score(name, rows).value for name in metrics_for(task.kind, rows)},
    )
    clusters, _ = clusters_of(test)
    compared = compare([result], metric, seed=task.seed, clusters=clusters)
    return arm_object(compared.arms[0], compared)


def _trained_folder(folder: Path) -> Path | None:
    """Where a training stage, or a tuned arm of a run, keeps its model."""
    for candidate in (folder / "model", folder):
        if (candidate / "prompt.json").is_file():
            return candidate
    if (folder / "manifest.json").is_file():
        run = Run.open(folder)
        arm = run.arm_folder(recommended(run)) / "model"
        if (arm / "prompt.json").is_file():
            return arm
        raise ModelError(
            f"{folder}: the recommended arm {arm.parent.name!r} has no tuned model.",
            fix=f"Name the folder of a tuned arm, for example {folder / 'arms' / 'lora'}.",
        )
    return None
