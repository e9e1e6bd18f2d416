"""Looking for a learning rate on a task's own data: what `luthier train --find-rate` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from luthier.data.mixtures import mix, others
from luthier.data.prepare import prepare
from luthier.data.sources import understood
from luthier.data.texts import prepare_texts
from luthier.errors import InputError
from luthier.files import disk_errors, write_json
from luthier.jobs import started_from
from luthier.progress import Reporter
from luthier.task import Task
from luthier.training.config import refuse_ignored
from luthier.training.decided import decided_for
from luthier.training.method import METHODS
from luthier.training.objective import objective_of
from luthier.training.range_test import (
    ABOVE,
    BELOW,
    RANGE_TEST,
    STEPS,
    RangeTest,
    growing,
    smooth,
    suggest,
    sweep,
)


def find_rate(
    task: Task | str | Path,
    *,
    out: str | Path,
    method: str = "lora",
    start: str | None = None,
    reporter: Reporter | None = None,
) -> RangeTest:
    """Run a range test on a task's training examples; `out/range_test.json` holds the result.

    No model is stored. The rates go from a thousandth of the method's default to a hundred times
    it, in 50 steps, and the test takes about as long as 50 steps of training.

    Args:
        task: a task, or the path of its file.
        out: gets range_test.json.
        method: a name in METHODS.
        start: what is tuned instead of the task's model.
        reporter: hears of the progress.

    Raises:
        InputError, ModelError, TrainingError: see their messages.
    """
    import torch

    task = understood(task if isinstance(task, Task) else Task.load(task))
    reporter = reporter or Reporter()
    tuning = METHODS.get(method)()
    if task.stages:
        raise InputError(
            f"{task.path}: --find-rate looks at one stage, and this task has several.",
            fix="Look at the task file of one of its stages.",
        )
    raw_text = task.data.text is not None
    refuse_ignored(task.training, [method])
    wanted = objective_of(task.training, raw_text=raw_text)
    name, base = started_from(task, start)
    prepared = prepare_texts(task) if raw_text else prepare(task)
    mixed = mix(task, prepared, others(task)) if task.mixture else None
    examples = mixed.examples if mixed else prepared.splits.train
    # nothing is looked at but the loss of the training rows, at rates of the test's own
    left_out = ("learning_rate", "patience", "evaluate_every", "wise_ft")
    wishes = task.wishes.model_copy(update={"objective": wanted.name, **dict.fromkeys(left_out)})
    objective, info, config = decided_for(
        name, base, wishes, method=method, examples=len(examples), seed=task.seed
    )
    default = config.learning_rate  # what the stage would use if the task did not say
    rates = growing(BELOW * default, ABOVE * default, STEPS)
    torch.manual_seed(task.seed)
    attention: Literal["sdpa", "eager"] = "sdpa" if torch.cuda.is_available() else "eager"
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    loaded = objective.load(name, dtype, base=base, attention=attention, reporter=reporter)
    objective.begin(loaded, task.instruction)
    made = objective.material(examples, (), config)
    items = objective.consult(loaded.model, made.items, config, info)
    tuning.words = tuple(loaded.tokenizer(task.instruction, add_special_tokens=False)["input_ids"])
    model = objective.prepare(loaded.model, tuning, config, name)
    with reporter.work(f"looking for a rate for {method}", STEPS) as bar:

        def stepped(step: int, rate: float, loss: float) -> None:
            bar.advance(1)
            bar.note(f"rate {rate:.1e} | loss {loss:.3f}")

        losses = sweep(model, objective, items, config, rates, report=stepped)
    notes = []
    if config.replay:
        notes.append("Rows of `training.replay` are left out of the test.")
    if config.unfreeze != "all" or config.layer_decay != 1:
        notes.append("All layers are trained at one rate here, whatever the task says of layers.")
    smoothed = smooth(losses)
    steepest, minimum, suggested = suggest(rates[: len(losses)], smoothed)
    if suggested is None:
        notes.append(
            "The loss never fell clearly: there is no rate to suggest. Look at the data, or at "
            "whether the model can already do the task."
        )
    if len(items) < config.batch_size * 10:
        notes.append(
            f"{len(items)} examples are few for a range test: the same rows come again, and the "
            "loss falls for that alone."
        )
    found = RangeTest(
        method=method,
        default=default,
        rates=rates[: len(losses)],
        losses=losses,
        smoothed=smoothed,
        steepest=steepest,
        minimum=minimum,
        suggested=suggested,
        notes=[*notes, *made.notes],
    )
    folder = Path(out)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RANGE_TEST, found.to_dict())
    return found
