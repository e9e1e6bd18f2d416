"""Stages of every tuning method on a tiny model, and what they trained as it was in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from training_fakes import examples

from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training.method import METHODS
from luthier.training.stage import StageResult, train_stage

IDS = torch.tensor([[10, 20, 30, 40, 50, 60]])


def stage(
    model: str | Path,
    folder: Path,
    method: str,
    *,
    seed: int = 0,
    reporter: Reporter | None = None,
    **wishes: Any,
) -> StageResult:
    """Three steps at a rate at which each method changes what a tiny model says."""
    defaults = {"learning_rate": 1e-2, "epochs": 1, "batch_size": 4, "precision": "float32"}
    return train_stage(
        model_name=str(model),
        base=None,
        instruction="Count the words.",
        examples=examples(12, seed=seed),
        wishes=Training(**{**defaults, **wishes}),
        method=method,
        seed=0,
        folder=folder,
        reporter=reporter or Reporter(),
        samples=False,  # asked of every method in test_training_resume.py
    )


@contextmanager
def keeping(method: str) -> Iterator[list[Any]]:
    """The models that stages of one method store, as they are in memory at that moment."""
    kind, kept = METHODS.get(method), []
    store = kind.store

    def keep(self: Any, model: Any, *args: Any, **named: Any) -> None:
        kept.append(model)
        store(self, model, *args, **named)

    kind.store = keep  # type: ignore[method-assign]
    try:
        yield kept
    finally:
        kind.store = store  # type: ignore[method-assign]


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """Float32 logits through the two halves that training and generation use."""
    from luthier.models.heads import body
    from luthier.models.heads import logits as scores

    model.eval()
    with torch.no_grad():
        return scores(model, body(model)(input_ids=ids, use_cache=False).last_hidden_state)


def prepared(model: Any, method: str, **values: Any) -> Any:
    """A model made ready for training by one method."""
    from training_fakes import config

    return METHODS.get(method)().prepare(model, config(method=method, **values), base="a-name")


def move(model: Any, *, scale: float = 0.1, seed: int = 1) -> dict[str, torch.Tensor]:
    """Change every trained parameter by noise; their float32 values, as training returns them."""
    torch.manual_seed(seed)
    weights = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn(parameter.shape).to(parameter.dtype))
                weights[name] = parameter.detach().float().clone()
    return weights
