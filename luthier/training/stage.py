"""One training stage, from examples to a stored model: what `luthier train` runs, and what the
tuned arms of a comparison run too."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from luthier.data.examples import Conversation, Example, Message
from luthier.errors import InputError
from luthier.files import folder_atomically, hash_of, read_json, write_json
from luthier.progress import Reporter
from luthier.prompts.prompt import Prompt, Taught
from luthier.task import Training
from luthier.training.config import Method, TrainingConfig, decide
from luthier.training.loop import StepReport, Trained


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


def teach_all(
    prompt: Prompt, examples: Sequence[Example], config: TrainingConfig
) -> tuple[list[Taught], list[str]]:
    """Render every example for training; rows that are too long are named, never cut in silence.

    Returns:
        (conversations in the order of the examples, notes on what was dropped or cut).

    Raises:
        InputError: rows are longer than `max_tokens` and the task does not say what to do.
    """
    taught, overlong = [], []
    for example in examples:
        built = prompt.teach(example.messages, example.output, loss_on=config.loss_on)
        if len(built.ids) > config.max_tokens:
            overlong.append(f"{example.source} ({len(built.ids)} tokens)")
            if config.overlong == "drop":
                continue
            if config.overlong == "cut":
                room = config.max_tokens - len(prompt.answer_ids(example.output))
                short = cut_to_fit(prompt, example.messages, room)
                built = prompt.teach(short, example.output, loss_on=config.loss_on)
        taught.append(built)
    if not overlong:
        return taught, []
    named = ", ".join(overlong[:5]) + (" ..." if len(overlong) > 5 else "")
    if config.overlong == "error":
        raise InputError(
            f"{len(overlong)} training examples are longer than {config.max_tokens} tokens: "
            f"{named}.",
            fix="Set training.overlong to drop or cut, or raise training.max_tokens.",
        )
    done = "left out" if config.overlong == "drop" else "cut at the start of the question"
    if not taught:
        raise InputError(f"All training examples are longer than {config.max_tokens} tokens.")
    return taught, [
        f"{len(overlong)} training examples longer than {config.max_tokens} tokens were {done}: "
        f"{named}."
    ]


def cut_to_fit(prompt: Prompt, conversation: Conversation, tokens: int) -> Conversation:
    """The conversation with the start of its last turn taken off until it fits.

    Raises:
        InputError: the instruction and earlier turns alone do not fit.
    """
    *before, last = conversation

    def kept(characters: int) -> Conversation:
        text = last.content[len(last.content) - characters :]
        return (*before, Message(last.role, text))

    if len(prompt.ask(kept(0))) > tokens:
        raise InputError(
            f"The instruction and the earlier turns alone are longer than {tokens} tokens.",
            fix="Shorten the instruction, or use a model with a longer context.",
        )
    low, high = 0, len(last.content)
    while low < high:  # more text never makes fewer tokens by more than a merge: bisection serves
        middle = (low + high + 1) // 2
        if len(prompt.ask(kept(middle))) <= tokens:
            low = middle
        else:
            high = middle - 1
    return kept(low)


def train_stage(
    *,
    model_name: str,
    base: Path | None,
    instruction: str,
    examples: Sequence[Example],
    wishes: Training,
    method: Method,
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
        method: "lora" or "full".
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
    from luthier.models.loading import describe, load_causal
    from luthier.models.machine import PeakMemory, this_machine
    from luthier.training.checkpoints import Checkpoints
    from luthier.training.loop import fit
    from luthier.training.objectives.sft import Sft

    torch.manual_seed(seed)
    info = describe(model_name, base=base)
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
        loaded = load_causal(model_name, dtype, base=base, attention=attention)
        model: Any = loaded.model
        prompt = Prompt(loaded.tokenizer, instruction=instruction, stop_ids=stop_ids(loaded.model))
        taught, notes = teach_all(prompt, examples, config)
        notes += prompt.notes
        objective = Sft()
        items = [objective.item(one) for one in taught]
        if minutes is not None and wishes.epochs is None:
            tokens = sum(item.length for item in items)
            rate = estimate(info, method).tokens_per_second
            affordable = max(1.0, float(int(60 * minutes * rate / tokens)))
            if affordable < config.epochs:
                notes.append(
                    f"{affordable:g} instead of {config.epochs:g} epochs, to stay within the "
                    f"budget ({tokens:,} tokens an epoch at about {rate:.0f} tokens/s)."
                )
                config = config.model_copy(update={"epochs": affordable})
        if method == "lora":
            model = adapters.add_lora(
                model,
                rank=config.rank,
                alpha=config.alpha,
                dropout=config.dropout,
                base=model_name,
            )
        trained_parameters, total = adapters.counts(model)
        identity = hash_of(
            {
                "config": config.model_dump(),
                "model": model_name,
                "prompt": prompt.hash,
                "items": [[item.ids, item.targets] for item in items],
            }
        )
        checkpoints = Checkpoints(folder / "checkpoints", identity)
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
            write_json(part / "prompt.json", {"model": model_name, **prompt.to_dict()})
        del model, loaded, objective
        gc.collect()
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


def stored_prompt(folder: Path) -> dict[str, Any]:
    """What `train_stage` stored beside a model: its prompt and the name of its base model."""
    stored: dict[str, Any] = read_json(folder / "prompt.json")
    return stored
