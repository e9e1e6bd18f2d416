"""One training stage, from examples to a stored model: what `luthier train` runs, and what the
tuned arms of a comparison run too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from luthier.data.examples import Example
from luthier.errors import InputError
from luthier.files import folder_atomically, hash_of, read_json, write_json
from luthier.progress import Reporter
from luthier.prompts.prompt import Prompt
from luthier.task import Training
from luthier.training.config import TrainingConfig, decide
from luthier.training.loop import StepReport, Trained
from luthier.training.method import METHODS
from luthier.training.rows import cut_to_fit, teach_all

__all__ = ["StageResult", "cut_to_fit", "stored_prompt", "teach_all", "train_stage"]


@dataclass(frozen=True)
class StageResult:
    """What a stage came to; `train.json` holds it.

    Attributes:
        tokens: real ones read, padding not counted.
        seconds: of the training loop alone.
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
    examples: int
    config: dict[str, Any]
    curve: list[tuple[int, float]]
    notes: list[str]

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

    Raises:
        InputError, ModelError, TrainingError: see their messages.
    """
    import torch

    from luthier.models import adapters
    from luthier.models.estimate import estimate
    from luthier.models.heads import stop_ids
    from luthier.models.machine import PeakMemory, this_machine
    from luthier.models.pool import give_back_memory
    from luthier.models.tuned import base_record, describe_any, load_any
    from luthier.training.checkpoints import Checkpoints
    from luthier.training.loop import fit
    from luthier.training.objectives.sft import Sft, computed_tokens

    torch.manual_seed(seed)
    info = describe_any(model_name, base=base)
    config = decide(
        wishes,
        method=method,
        examples=len(examples),
        hidden_size=info.hidden_size,
        context_length=info.context_length,
        bfloat16=this_machine().fast_bfloat16,
        seed=seed,
    )
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    with PeakMemory() as memory:
        # eager attention is 10 % faster than SDPA at these lengths on a CPU (docs/log.md)
        attention: Literal["sdpa", "eager"] = "sdpa" if torch.cuda.is_available() else "eager"
        loaded = load_any(model_name, dtype, base=base, attention=attention, reporter=reporter)
        model: Any = loaded.model
        prompt = Prompt(loaded.tokenizer, instruction=instruction, stop_ids=stop_ids(loaded.model))
        taught, notes = teach_all(prompt, examples, config)
        notes += prompt.notes
        objective = Sft()
        items = [objective.item(one) for one in taught]
        identity = {
            "model": model_name,
            "prompt": prompt.hash,
            "items": hash_of([[item.ids, item.targets] for item in items]),
        }
        if minutes is not None and wishes.epochs is None:
            config, said = within_budget(
                config,
                tokens=computed_tokens(items, config.batch_size),
                rate=estimate(info, METHODS.get(method).like).tokens_per_second,
                minutes=minutes,
                memory=folder / "checkpoints" / "epochs.json",
                identity=hash_of({**identity, "config": config.model_dump()}),
            )
            notes += said
        model = METHODS.get(method)().prepare(model, config, base=model_name)
        trained_parameters, total = adapters.counts(model)
        checkpoints = Checkpoints(
            folder / "checkpoints", hash_of({**identity, "config": config.model_dump()})
        )
        epochs_tokens = sum(item.length for item in items)
        with reporter.work(f"training {method}", epochs_tokens * config.epochs) as bar:
            seen = 0

            def step_done(step: StepReport) -> None:
                nonlocal seen
                bar.advance(step.tokens - seen)
                seen = step.tokens
                bar.note(f"loss {step.loss:.3f}  {step.tokens / step.seconds:.0f} tokens/s")
                reporter.event("step", **asdict(step))

            trained: Trained = fit(
                model, objective, items, config, checkpoints=checkpoints, report=step_done
            )
        with folder_atomically(folder / "model") as part:
            adapters.save(model, trained.weights, part, loaded.tokenizer)
            write_json(part / "prompt.json", {**base_record(model_name, base), **prompt.to_dict()})
        del model, loaded, objective
        give_back_memory()
    checkpoints.clear()
    return StageResult(
        method=method,
        objective="sft",
        tokens=trained.tokens,
        seconds=trained.seconds,
        tokens_per_second=trained.tokens / max(trained.seconds, 1e-9),
        peak_memory_bytes=memory.bytes,
        steps=trained.steps,
        final_loss=trained.final_loss,
        trained_parameters=trained_parameters,
        total_parameters=total,
        examples=len(items),
        config=json.loads(config.model_dump_json()),
        curve=trained.curve,
        notes=notes + trained.notes,
    )


def within_budget(
    config: TrainingConfig, *, tokens: int, rate: float, minutes: float, memory: Path, identity: str
) -> tuple[TrainingConfig, list[str]]:
    """Fewer epochs, where all of them would take longer than there is time; at least one.

    The rate is measured anew each time, so what was decided is remembered: an interrupted stage
    continues with the same plan.

    Args:
        config: with the epochs that would be trained given time.
        tokens: of one epoch.
        rate: tokens a second.
        minutes: what training may take.
        memory: where the decision is written down.
        identity: of the stage that the decision is for.

    Returns:
        (the config with the epochs there is time for, notes for the report).
    """
    affordable = max(1.0, float(int(60 * minutes * rate / tokens)))
    epochs = min(config.epochs, affordable)
    if memory.is_file():
        try:
            stored = read_json(memory)
            if stored["identity"] == identity:
                epochs = float(stored["epochs"])
        except (InputError, KeyError, TypeError, ValueError):
            pass  # damaged: decide anew
    write_json(memory, {"identity": identity, "epochs": epochs})
    if epochs >= config.epochs:
        return config, []
    return config.model_copy(update={"epochs": epochs}), [
        f"{epochs:g} instead of {config.epochs:g} epochs, to stay within the budget "
        f"({tokens:,} tokens an epoch at about {rate:.0f} tokens/s)."
    ]


def stored_prompt(folder: Path) -> dict[str, Any]:
    """What `train_stage` stored beside a model: its prompt and the name of its base model."""
    stored: dict[str, Any] = read_json(folder / "prompt.json")
    return stored
