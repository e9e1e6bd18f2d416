"""Soft prompts of input embeddings; and what all soft prompts have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.training.method import METHODS, VIRTUAL_TOKENS, TuningMethod

if TYPE_CHECKING:
    import torch

    from luthier.task_training import Training
    from luthier.training.config import TrainingConfig


class Soft(TuningMethod):
    """Trains positions that stand before every row; the model does not change."""

    order = 57
    reads = frozenset({"virtual_tokens"})

    def positions(self, wishes: Training) -> int:
        """Those that are trained."""
        return wishes.virtual_tokens or VIRTUAL_TOKENS

    def store(
        self,
        model: Any,
        weights: Mapping[str, torch.Tensor],
        folder: Path,
        tokenizer: Any,
        *,
        base: str,
    ) -> None:
        """In peft's format, without what only training needs."""
        del tokenizer, base
        from luthier.models.soft_prompts import save

        save(model, weights, folder)


@METHODS.register("prompt-tuning")
class PromptTuning(Soft):
    """Prompt tuning (Lester et al. 2021, arXiv 2104.08691): `virtual_tokens` input embeddings are
    learned, starting from the words of the instruction (or from random words without one)."""

    name = "prompt-tuning"
    title = "Prompt tuning"
    #: few numbers, and all of the model between them and the loss: after 3 epochs on 200 questions
    #: of TREC the validation loss is 0.50, after 6 it is 0.40 (LoRA after 3: 0.30)
    passes = 2.0

    def learning_rate(self, hidden_size: int) -> float:
        """1e-1: better than 3e-2 on 200 questions of TREC with SmolLM2-135M in three epochs
        (validation loss 0.50, 0.59); in one epoch 3e-3 and 3e-1 were worse than both.

        A constant: a change of an embedding means as much in wide models as in narrow ones. (Lester
        et al. have 0.3 with Adafactor, section 3.3, for runs of 30,000 steps.)
        """
        del hidden_size
        return 1e-1

    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """Embeddings before every row."""
        from luthier.models.soft_prompts import add_prompt

        return add_prompt(
            model, length=config.virtual_tokens, words=self.words, base=base, seed=config.seed
        )
