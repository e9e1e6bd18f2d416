"""Soft prompts of keys and values in every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luthier.training.method import METHODS
from luthier.training.methods.prompt_tuning import Soft

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig


@METHODS.register("prefix-tuning")
class PrefixTuning(Soft):
    """Prefix tuning (Li & Liang 2021, arXiv 2101.00190): `virtual_tokens` keys and values are
    learned for every layer, through an MLP that is not needed afterwards."""

    name = "prefix-tuning"
    title = "Prefix tuning"
    order = 58

    def learning_rate(self, hidden_size: int) -> float:
        """1e-3: on 200 questions of TREC with SmolLM2-135M a little better than 3e-4 in three
        epochs (validation loss 0.31, 0.36) and a little worse in one; from 3e-3 on the loss jumps
        about. (Li & Liang have 5e-5, for longer runs.)"""
        del hidden_size
        return 1e-3

    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """Keys and values from an MLP before every row."""
        from luthier.models.soft_prompts import add_prefix

        return add_prefix(
            model, length=config.virtual_tokens, words=self.words, base=base, seed=config.seed
        )
