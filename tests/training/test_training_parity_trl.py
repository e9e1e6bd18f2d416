"""Twenty steps beside TRL's SFTTrainer: same rows, same order, same start, same loss curve."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from training_fakes import config, load, uneven

from luthier.models.adapters import add_lora
from luthier.prompts.prompt import Prompt, Taught
from luthier.training.batches import plan
from luthier.training.config import TrainingConfig
from luthier.training.loop import fit
from luthier.training.objectives.sft import Sft

trl = pytest.importorskip("trl", reason="TRL is the reference; it comes with the bench extra")
datasets = pytest.importorskip("datasets", reason="TRL reads its rows through datasets")

STEPS, BATCH = 20, 4


def taught_rows(tokenizer: Any, n: int) -> list[Taught]:
    prompt = Prompt(tokenizer, instruction="Count the words.")
    return [prompt.teach(e.messages, e.output, loss_on="completion") for e in uneven(n)]


def by_trl(
    model: Any, tokenizer: Any, rows: list[Taught], settings: TrainingConfig, folder: Path
) -> list[float]:
    """The loss of every step as SFTTrainer reports it, with two micro-batches a step."""
    from torch.utils.data import SequentialSampler

    order = plan(
        [len(row.ids) - 1 for row in rows],
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        seed=settings.seed,
    )
    assert all(len(batch) == settings.batch_size for batch in order)
    ordered = [rows[row] for batch in order for row in batch]
    data = datasets.Dataset.from_dict(
        {
            "input_ids": [row.ids for row in ordered],
            "labels": [
                [i if t else -100 for i, t in zip(row.ids, row.trained, strict=True)]
                for row in ordered
            ],
        }
    )

    class InOurOrder(trl.SFTTrainer):  # type: ignore[misc, name-defined]
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(data)

    trainer = InOurOrder(
        model=model,
        processing_class=tokenizer,
        train_dataset=data,
        args=trl.SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=settings.batch_size // 2,
            gradient_accumulation_steps=2,
            num_train_epochs=1,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            logging_steps=1,
            max_length=None,
            packing=False,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def largest_difference(ours: list[float], theirs: list[float]) -> float:
    assert len(ours) == len(theirs)
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def with_method(model: Any, method: str, rank: int = 4) -> Any:
    if method == "full":
        return model.requires_grad_(True)
    torch.manual_seed(0)  # the same A on both sides; B is zero
    return add_lora(model, rank=rank, alpha=2.0 * rank, dropout=0.0, base="tiny")


@pytest.mark.parametrize(("method", "rate"), [("full", 3e-3), ("lora", 1e-2)])
def test_the_loss_curve_is_that_of_trl(
    tiny_model: Path, tmp_path: Path, method: str, rate: float
) -> None:
    settings = config(
        method=method,
        epochs=2.5,
        batch_size=BATCH,
        learning_rate=rate,
        weight_decay=0.1,
        warmup=0.0,
        micro_tokens=150,
    )
    loaded = load(tiny_model)
    rows = taught_rows(loaded.tokenizer, 32)
    model = with_method(loaded.model, method)
    ours = fit(model, Sft(), [Sft().item(row) for row in rows], settings)
    assert ours.steps == STEPS
    curve = [loss for _, loss in ours.curve]
    # rows of a step differ in trained tokens, or a mean of means would pass too
    assert len({sum(row.trained) for row in rows}) > 1
    assert curve[-1] < 0.7 * curve[0]

    again = load(tiny_model)
    theirs = by_trl(
        with_method(again.model, method), again.tokenizer, rows, settings, tmp_path / "trl"
    )
    assert all(math.isfinite(loss) for loss in theirs)
    assert largest_difference(curve, theirs) < 1e-4
