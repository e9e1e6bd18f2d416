"""The jobs besides the comparison: one training stage, and the score of one model."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.prepare import Prepared, prepare
from luthier.data.schemas import answer_schema
from luthier.data.sources import understood
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
        self._inner = inner
        self._path = path

    def event(self, kind: str, **values: object) -> None:
        """A line of events.jsonl."""
        self._inner.event(kind, **values)
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
    track: str | None = None,
) -> StageResult:
    """Train one stage on a task's training examples; the test is not touched.

    A task with `stages` is trained through all of them (`staged/training.py`), and the tests of all
    stages are answered after each; a task with a `mixture` is trained on it.

    Under torchrun every process calls this, each computes its share of every step, and all return
    the same result (`training/parallel.py`).

    Args:
        task: a task, or the path of its file.
        out: gets model/, train.json and events.jsonl.
        method: a name in `training.method.METHODS`, such as "lora" or "full"; of a task with stages
            that of the stages that name none.
        start: what is tuned instead of the task's model: a model, the folder of an earlier stage,
            or a run (then its recommended arm, which must be a tuned one).
        resume: continue an interrupted stage in `out`.
        reporter: hears of the progress.
        track: log to a tracker as well: NAME or NAME:TARGET (`luthier.trackers`).

    Raises:
        InputError: an unknown method or tracker, or data that cannot be used.
        RunError: `out` is taken.
        ModelError: the model cannot be found or loaded.
    """
    from luthier.data.texts import prepare_texts
    from luthier.models.tuned import base_record
    from luthier.staged.plan import check_elsewhere
    from luthier.trackers.base import choose, tracking
    from luthier.training.config import refuse_ignored
    from luthier.training.method import METHODS
    from luthier.training.objective import check_method, objective_of
    from luthier.training.parallel import environment
    from luthier.training.range_test import RANGE_TEST

    # of several processes (torchrun), the first one writes and reports
    main = environment().main
    task = understood(task if isinstance(task, Task) else Task.load(task))
    METHODS.get(method)  # a method that nobody knows is told at once
    tracker = choose(track) if track and main else None
    if task.stages:
        from luthier.staged.training import train_stages

        settings = {**task.to_dict(), "method": method}
        with tracking(
            tracker, reporter or Reporter(), task=task.name, folder=Path(out), settings=settings
        ) as heard:
            return train_stages(
                task, out=out, method=method, start=start, resume=resume, reporter=heard
            )
    refuse_ignored(task.training, [method])
    check_elsewhere(task)
    raw_text = task.data.text is not None
    check_method(objective_of(task.training, raw_text=raw_text), method)
    if task.training.tune and main and reporter:
        reporter.say("`training.tune` is for `luthier run`: this trains the given settings alone.")
    folder = Path(out)
    if main and (folder / "train.json").is_file():
        raise RunError(
            f"{folder} already holds a finished training stage.", fix="Choose another --out."
        )
    left = [p for p in folder.iterdir() if p.name != RANGE_TEST] if folder.is_dir() else []
    if main and left and not resume:
        raise RunError(
            f"{folder} is not empty.",
            fix="Add --resume to continue an interrupted stage there, or choose another --out.",
        )
    model, base = started_from(task, start)
    base_record(model, base)  # a name that nothing answers to is told at once
    prepared = prepare_texts(task) if raw_text else prepare(task)
    if raw_text and main and reporter:
        for note in prepared.notes:
            reporter.say(note)
    settings = {**task.to_dict(), "method": method, "model": model}
    with tracking(
        tracker, reporter or Reporter(), task=task.name, folder=folder, settings=settings
    ) as heard:
        return train_prepared(
            task, prepared, model=model, base=base, method=method, folder=folder, reporter=heard
        )


def started_from(task: Task, start: str | None) -> tuple[str, Path | None]:
    """(the model that is tuned, the folder its name starts from)."""
    if start is None:
        return task.model, task.folder
    stored = _trained_folder(Path(start))
    return (str(stored.absolute()) if stored else start), None


def train_prepared(
    task: Task,
    prepared: Prepared,
    *,
    model: str,
    base: Path | None,
    method: str,
    folder: Path,
    reporter: Reporter | None = None,
) -> StageResult:
    """Train one stage on data that was read before; `train.json` is written last.

    Args:
        task: instruction, training section and seed; a mixture is read and trained on.
        prepared: its data.
        model: what is tuned.
        base: where a relative model name starts.
        method: a name in `training.method.METHODS`.
        folder: gets model/, train.json and events.jsonl; with `training.canaries` or `memorisation`
            also memorisation.json.
        reporter: hears of the progress.

    Raises:
        InputError, ModelError, TrainingError: see their messages.
        RunError: the disk is full, or the folder may not be written.
    """
    from luthier.aftermath import audit_stage, audits, learns_to_write, with_canaries
    from luthier.data.mixtures import mix, others
    from luthier.training.parallel import environment, joined
    from luthier.training.stage import train_stage

    main = environment().main
    clean, held_out = prepared.splits.train, prepared.splits.validation
    if task.training.canaries:
        rows = with_canaries(task, clean, (reporter if main else None) or Reporter())
        prepared = replace(prepared, splits=replace(prepared.splits, train=rows))
    mixed = mix(task, prepared, others(task)) if task.mixture else None
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    heard = _Events(reporter or Reporter(), folder / "events.jsonl") if main else Reporter()
    try:
        with joined():
            result = train_stage(
                model_name=model,
                base=base,
                instruction=task.instruction,
                examples=mixed.examples if mixed else prepared.splits.train,
                wishes=task.wishes,
                method=method,
                seed=task.seed,
                folder=folder,
                reporter=heard,
                validation=prepared.splits.validation,
                mixture=mixed,
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
    numbers = ("final_loss", "seconds", "tokens_per_second", "trained_parameters")
    heard.event("stage done", metrics={key: getattr(result, key) for key in numbers})
    if main:
        if audits(task) and learns_to_write(task):
            audit_stage(task, clean, held_out, folder, model=model, base=base, reporter=heard)
        elif audits(task):
            heard.say("memorisation: not looked for, as this learns no answers to questions.")
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
    from luthier.arms.headed import open_headed
    from luthier.arms.prompted import PromptedAnswerer, Reading
    from luthier.arms.readings import longest_answer
    from luthier.arms.tuned import open_tuned
    from luthier.models.headed import has_head
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
        if has_head(stored):
            return Opened(shown, open_headed(shown, stored, task))
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
    from luthier.arms.readings import conversations
    from luthier.evaluation.clusters import clusters_of
    from luthier.evaluation.scoring import deciding_metric, score
    from luthier.models.energy import Energy
    from luthier.models.machine import PeakMemory
    from luthier.models.pool import ModelPool
    from luthier.results import costs_of_answers, prediction_row, result_of, scoring_rows
    from luthier.verdict.compare import compare
    from luthier.verdict.document import arm_object

    task = task if isinstance(task, Task) else Task.load(task)
    reporter = reporter or Reporter()
    metric = deciding_metric(task.chosen_by, task.kind)
    prepared = prepare(task)
    test = prepared.splits.test
    with PeakMemory() as memory:
        opened = open_any(str(model), ModelPool(), task, prepared.splits.train)
        label = f"{opened.name}: answering the test"
        with reporter.work(label, len(test)) as bar, Energy() as answering:
            started = time.perf_counter()
            answers = opened.answerer.answer(conversations(test), progress=bar.advance)
            seconds = (time.perf_counter() - started) / len(test)
    stored, base, gold = _kept(str(model), task, test)
    schema = answer_schema(task, prepared.splits.train)
    rows = scoring_rows(task.kind, prepared.labels, test, answers, schema)
    values = score(metric.name, rows).row_scores
    clusters, _ = clusters_of(test)
    result = result_of(
        opened.name,
        [
            prediction_row(example, answer, float(value))
            for example, answer, value in zip(test, answers, values, strict=True)
        ],
        {"costs": costs_of_answers(answers, seconds, memory.bytes, answering.joules)},
        task,
        kind=task.kind,
        labels=prepared.labels,
        metric=metric,
        schema=schema,
        gold=gold,
        stored=stored,
        base=base,
        clusters=clusters,
    )
    compared = compare([result], metric, seed=task.seed, clusters=clusters)
    return arm_object(compared.arms[0], compared)


def _kept(
    name: str, task: Task, test: Sequence[Example]
) -> tuple[Path | None, Path | None, Sequence[str | None] | None]:
    """(what is stored of a run's arm or a stage, its base model, the documents with the answers);
    None for what it has not."""
    from luthier.arms.grounded import named_documents
    from luthier.models.tuned import describe_any
    from luthier.results import base_of

    folder = Path(name)
    if (folder / "manifest.json").is_file():
        run = Run.open(folder)
        stored = run.arm_folder(recommended(run)) / "model"
        return stored, base_of(run.manifest), named_documents(test, task, run.folder)
    stage = _trained_folder(folder)
    return stage, describe_any(str(stage or name)).path, None


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
