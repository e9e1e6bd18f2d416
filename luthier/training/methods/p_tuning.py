"""Soft prompts of input embeddings that an encoder computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luthier.training.method import METHODS
from luthier.training.methods.prompt_tuning import Soft

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig


@METHODS.register("p-tuning")
class PTuning(Soft):
    """P-tuning (Liu et al. 2021, arXiv 2103.10385): `virtual_tokens` input embeddings are computed
    by a small network that is trained with them and not needed afterwards."""

    name = "p-tuning"
    title = "P-tuning"
    #: as for prompt tuning, which learns as slowly
    passes = 2.0

    def learning_rate(self, hidden_size: int) -> float:
        """3e-3: better than 1e-2 on 200 questions of TREC with SmolLM2-135M in three epochs
        (validation loss 0.56, 0.85), and better than 1e-3 and 3e-4 in one."""
        del hidden_size
        return 3e-3

    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """Embeddings from an MLP before every row."""
        from luthier.models.soft_prompts import add_encoded_prompt

        return add_encoded_prompt(
            model, length=config.virtual_tokens, words=self.words, base=base, seed=config.seed
        )
