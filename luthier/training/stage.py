"""One training stage, from examples to a stored model: what `luthier train` runs, and what the
tuned arms of a comparison run too."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from luthier.data.examples import Example
from luthier.data.mixtures import Mixed
from luthier.errors import InputError
from luthier.files import folder_atomically, hash_of, read_json, write_json
from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training.config import TrainingConfig
from luthier.training.loop import StepReport, Trained
from luthier.training.method import METHODS
from luthier.training.objective import TrainingItem
from luthier.training.rows import cut_to_fit, teach_all

__all__ = ["StageResult", "cut_to_fit", "stored_prompt", "teach_all", "train_stage"]


@dataclass(frozen=True)
class StageResult:
    """What a stage came to; `train.json` holds it.

    Attributes:
        tokens: real ones read, padding not counted.
        seconds: of the training loop alone.
        trained_fraction: trained of all parameters, those that the method added included.
        validation: (step, loss on the validation rows) of every look at them.
        best_step: the step whose weights were kept, where patience decided that.
        tasks: of a mixture, each task's own (step, loss).
        rates: (step, learning rate), at most a hundred of them.
        objective: what was learned; metrics: what else it measured, each as (step, value).
        measured: what it measured of the held-out rows "before" training and "after".
        estimate: what was foreseen: seconds, peak_memory_bytes, and whether it fits.
        full_epochs: how many it would have been given time, where the budget cut them.
    """

    method: str
    objective: str
    tokens: int
    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    steps: int
    final_loss: float
    trained_parameters: int
    total_parameters: int
    trained_fraction: float
    examples: int
    config: dict[str, Any]
    curve: list[tuple[int, float]]
    notes: list[str]
    validation: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    tasks: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    rates: list[tuple[int, float]] = field(default_factory=list)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    estimate: dict[str, Any] = field(default_factory=dict)
    full_epochs: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def train_stage(
    *,
    model_name: str,
    base: Path | None,
    instruction: str,
    examples: Sequence[Example],
    wishes: Training,
    method: str,
    seed: int,
    folder: Path,
    reporter: Reporter,
    minutes: float | None = None,
    validation: Sequence[Example] = (),
    mixture: Mixed | None = None,
    samples: bool = True,
    watch: Callable[[int, int, float], None] | None = None,
) -> StageResult:
    """Train on examples and store the result in `folder/model`.

    A kill at any moment leaves checkpoints in `folder/checkpoints`; calling again with the same
    arguments continues from the newest one and comes to the same weights.

    Args:
        model_name: catalogue name, folder or hub id of what is tuned.
        base: where relative model paths start.
        instruction: the system message of every example.
        examples: what to learn.
        wishes: the task's training section.
        method: a name in METHODS.
        seed: decides order and initial values.
        folder: where the model and checkpoints go.
        reporter: hears of every step.
        minutes: what the training loop may take; fewer epochs are trained when more would be
            needed, and the result's notes say so. None for no limit.
        validation: examples whose loss is measured, and by which training stops, where the task's
            `training.evaluate_every` or `training.patience` asks for it.
        mixture: of several tasks; `examples` are then all of its examples.
        samples: write what a few questions are answered before and after (`samples.py`).
        watch: hears of every validation loss, (step, steps, loss), and may raise to stop training.

    Raises:
        InputError, ModelError, TrainingError: see their messages.
    """
    import torch

    from luthier.generation.local import Generator
    from luthier.models import adapters
    from luthier.models.allocator import give_back_memory
    from luthier.models.estimate import process_bytes
    from luthier.models.machine import PeakMemory
    from luthier.models.tuned import base_record
    from luthier.training.checkpoints import Checkpoints
    from luthier.training.decided import decided_for
    from luthier.training.foresee import foresee
    from luthier.training.loop import fit
    from luthier.training.movement import Movement
    from luthier.training.pace import epoch_seconds, within_budget
    from luthier.training.parallel import current
    from luthier.training.remedies.replay import NAME, replayed
    from luthier.training.remedies.wise_ft import average, put, row_losses, start_of
    from luthier.training.samples import NOT_ASKED, SAMPLES, Samples
    from luthier.training.several import PerTask, TaskCurves, in_order, with_replay

    torch.manual_seed(seed)
    objective, info, config = decided_for(
        model_name, base, wishes, method=method, examples=len(examples), seed=seed
    )
    if mixture and not objective.writes:
        raise InputError(f"A mixture of tasks cannot be trained with objective {objective.name}.")
    if wishes.replay and not objective.writes:
        raise InputError(
            f"`training.replay` cannot be used with objective {objective.name}.",
            fix="Leave it out.",
        )
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    with PeakMemory() as memory:
        # eager attention is 10 % faster than SDPA at these lengths on a CPU (docs/log.md)
        attention: Literal["sdpa", "eager"] = "sdpa" if torch.cuda.is_available() else "eager"
        loaded = objective.load(
            model_name, dtype, base=base, attention=attention, reporter=reporter
        )
        model: Any = loaded.model
        objective.begin(loaded, instruction)
        prompt = objective.prompt if objective.writes else None
        if config.replay and prompt:
            extra = replayed(
                config.replay,
                examples=len(examples),
                base=base,
                seed=seed,
                prompt=prompt,
                generator=partial(Generator, model, loaded.tokenizer),
                memory=folder / "replay.json",
                reporter=reporter,
            )
            examples = [*examples, *extra.examples]
        made = objective.material(examples, validation, config)
        items, kept, held_items = made.items, made.kept, made.held_out
        names = [examples[index].source for index in kept]
        notes = [*made.notes, *(extra.notes if config.replay and prompt else ())]
        identity = {
            "model": model_name,
            "record": hash_of(objective.record()),
            "items": hash_of([vars(item) for item in items]),
            "validation": hash_of([vars(item) for item in held_items]),
        }
        items = objective.consult(model, items, config, info)
        held_items = objective.consult(model, held_items, config, info)
        measured = {"before": objective.measure(model, held_items)}
        tuning = METHODS.get(method)()
        tuning.words = tuple(loaded.tokenizer(instruction, add_special_tokens=False)["input_ids"])
        asked = None
        if samples and prompt:
            asked = Samples(prompt, validation, examples, info.context_length)
        elif samples:
            notes.append(NOT_ASKED)
        if not current().main:  # the first process asks and writes
            asked = None
        answers = asked.ask(model, loaded.tokenizer) if asked else []
        own = {name for name, _ in model.named_parameters()}
        model = objective.prepare(model, tuning, config, model_name)
        before = start_of(model, own) if config.wise_ft is not None else {}
        trained_parameters, total = adapters.counts(model)
        movement = Movement(model) if asked else None
        full = config.epochs
        if minutes is not None and wishes.epochs is None:
            reckoned = foresee(info, config, objective, items)
            config, said = within_budget(
                config,
                reckoned=reckoned.epoch_seconds,
                tried=partial(epoch_seconds, model, objective, items, config, reckoned),
                minutes=minutes,
                memory=folder / "checkpoints" / "epochs.json",
                identity=hash_of({**identity, "config": config.model_dump()}),
            )
            notes += said
        short = config.epochs < full
        draws: Sequence[TrainingItem] = items
        apart = None
        if mixture:
            tasks = [*mixture.tasks, *[NAME] * (len(examples) - len(mixture.tasks))]
            ordered = in_order(
                items,
                [tasks[index] for index in kept],
                with_replay(mixture.shares, config.replay),
                epochs=config.epochs,
                seed=seed,
            )
            draws, names = ordered[0], [names[row] for row in ordered[1]]
            notes += [*mixture.notes, *ordered[2]]
            identity["draws"] = hash_of(ordered[1])
            config = config.model_copy(update={"epochs": 1.0, "order": "given"})
            apart = PerTask(objective)
        reporter.event("training", method=method, config=config.model_dump(mode="json"))
        plain = [getattr(one, "item", one) for one in draws]
        foreseen = foresee(info, config, objective, plain, held=process_bytes())
        reporter.event("estimate", **foreseen.to_dict())
        if foreseen.instead:
            reporter.say(f"This may not fit: {foreseen.instead}.")
        # what changes no number may be changed between an interruption and going on
        same = config.model_dump(
            exclude={"checkpoint_every", "keep_checkpoints", "gradient_checkpointing"}
        )
        checkpoints = Checkpoints(
            folder / "checkpoints",
            hash_of({**identity, "config": same}),
            keep=config.keep_checkpoints,
        )
        ours = checkpoints.identity[:12]
        curves = TaskCurves(folder / "checkpoints" / f"tasks-{ours}.jsonl")
        also = TaskCurves(folder / "checkpoints" / f"metrics-{ours}.jsonl")
        epochs_tokens = sum(item.length for item in draws)
        with reporter.work(f"training {method}", epochs_tokens * config.epochs) as bar:
            seen, planned = 0, 1

            def step_done(step: StepReport) -> None:
                nonlocal seen, planned
                bar.advance(step.tokens - seen)
                seen = step.tokens
                planned = step.steps
                bar.note(step.words)
                told = asdict(step)
                if apart:
                    told["tasks"] = apart.taken()
                    curves.add(step.step, told["tasks"])
                if taken := objective.taken():
                    told["metrics"] = taken
                    also.add(step.step, taken)
                reporter.event("step", **told)

            def looked(step: int, loss: float) -> None:
                reporter.event("validation", step=step, loss=loss)
                if watch:
                    watch(step, planned, loss)

            def notice(text: str) -> None:
                reporter.say(text)
                reporter.event("notice", text=text)

            trained: Trained = fit(
                model,
                apart or objective,
                draws,
                config,
                checkpoints=checkpoints,
                report=step_done,
                validation=held_items if config.patience or config.evaluate_every else (),
                evaluated=looked,
                notice=notice,
                names=names,
            )
        task_curves, metrics = curves.read(), also.read()
        if config.wise_ft is not None:
            averaged, share, said = average(
                model,
                before,
                trained.weights,
                config.wise_ft,
                partial(row_losses, model, objective, held_items),
            )
            reporter.event("wise-ft", alpha=share)
            trained = replace(trained, weights=averaged, notes=[*trained.notes, *said])
        if current().main:
            with folder_atomically(folder / "model") as part:
                objective.store(model, trained.weights, part, tuning, base=model_name)
                record = {
                    **base_record(model_name, base, beside=folder / "model"),
                    **objective.record(),
                }
                write_json(part / "prompt.json", record)
            if asked and movement:
                put(model, trained.weights)
                after = asked.ask(model, loaded.tokenizer)
                compared = asked.compared(answers, after, movement.measure(trained.weights))
                write_json(folder / SAMPLES, compared)
                if compared["warning"]:
                    trained.notes.append(compared["warning"])
                    reporter.event("warning", text=compared["warning"])
            checkpoints.clear()
        measured["after"] = objective.measure(model, held_items)
        del model, loaded
        give_back_memory()
    return StageResult(
        method=method,
        objective=objective.name,
        tokens=trained.tokens,
        seconds=trained.seconds,
        tokens_per_second=trained.tokens / max(trained.seconds, 1e-9),
        peak_memory_bytes=memory.bytes,
        steps=trained.steps,
        final_loss=trained.final_loss,
        trained_parameters=trained_parameters,
        total_parameters=total,
        trained_fraction=trained_parameters / total,
        examples=len(items),
        config=json.loads(config.model_dump_json()),
        curve=trained.curve,
        notes=notes + trained.notes,
        validation=trained.validation,
        best_step=trained.best_step,
        tasks=task_curves,
        metrics=metrics,
        measured={when: found for when, found in measured.items() if found},
        rates=rates(config, planned, trained.steps),
        estimate=foreseen.to_dict(),
        full_epochs=full if short else None,
    )


def rates(config: TrainingConfig, planned: int, done: int) -> list[tuple[int, float]]:
    """(step, learning rate) of the steps that were done, at most a hundred, for the report.

    Args:
        config: of the stage.
        planned: optimiser steps the schedule was made for.
        done: steps that were taken; fewer where training stopped early.
    """
    from luthier.training.optimizer import learning_rate_at

    chosen = sorted({round(1 + i * (done - 1) / 99) for i in range(100)}) if done else []
    return [
        (
            step,
            learning_rate_at(step - 1, planned, peak=config.learning_rate, warmup=config.warmup),
        )
        for step in chosen
    ]


def stored_prompt(folder: Path) -> dict[str, Any]:
    """What `train_stage` stored beside a model: its prompt and the name of its base model."""
    stored: dict[str, Any] = read_json(folder / "prompt.json")
    return stored
