"""A tiny model with a trainable head, and conversations to train on."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from luthier.data.examples import Example, Message
from luthier.prompts.prompt import Prompt
from luthier.training.config import TrainingConfig
from luthier.training.objectives.sft import Item, Sft

WORDS = ["red", "green", "blue", "where", "who", "when", "what is", "ü", "a", "long question"]


def examples(n: int, *, seed: int = 0) -> list[Example]:
    """Questions of different lengths, answered by the number of their words."""
    source = random.Random(seed)
    made = []
    for index in range(n):
        words = source.choices(WORDS, k=source.randint(1, 8))
        question = (Message("user", " ".join(words)),)
        made.append(Example(str(index), question, f"{len(words)} words", source=f"row {index}"))
    return made


def load(folder: Path, dtype: Any = None) -> Any:
    """The tiny model (float32 unless told, eager attention) and its tokenizer."""
    import torch

    from luthier.models.loading import load_causal

    return load_causal(str(folder), dtype or torch.float32, attention="eager")


def items(tokenizer: Any, n: int, *, instruction: str = "", seed: int = 0) -> list[Item]:
    """What the loop trains on."""
    prompt = Prompt(tokenizer, instruction=instruction)
    taught = [
        prompt.teach(e.messages, e.output, loss_on="completion") for e in examples(n, seed=seed)
    ]
    return [Sft().item(one) for one in taught]


def uneven(n: int, *, seed: int = 0) -> list[Example]:
    """Examples whose answers, and so their weights, differ by a factor of six."""
    return [
        replace(one, output=" ".join([one.output] * (1 + index * 7 % 6)))
        for index, one in enumerate(examples(n, seed=seed))
    ]


def uneven_items(tokenizer: Any, n: int, *, instruction: str = "", seed: int = 0) -> list[Item]:
    """What the loop trains on, a mean of means being far from the mean."""
    prompt = Prompt(tokenizer, instruction=instruction)
    taught = [
        prompt.teach(e.messages, e.output, loss_on="completion") for e in uneven(n, seed=seed)
    ]
    return [Sft().item(one) for one in taught]


def config(**values: Any) -> TrainingConfig:
    """A short float32 stage."""
    defaults = {
        "method": "full",
        "learning_rate": 1e-3,
        "epochs": 1.0,
        "batch_size": 4,
        "max_tokens": 512,
        "precision": "float32",
        "checkpoint_every": 0,
    }
    return TrainingConfig(**{**defaults, **values})
