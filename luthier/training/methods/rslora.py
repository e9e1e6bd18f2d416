"""Rank-stabilised LoRA: the update is divided by the square root of the rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luthier.training.method import METHODS
from luthier.training.methods.lora import Lora

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig


@METHODS.register("rslora")
class RankStabilisedLora(Lora):
    """LoRA scaled by alpha / sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732, theorem 3.2).

    With LoRA's alpha / r, what an adapter learns in a step shrinks as its rank grows; with the
    square root it does not, so that one learning rate serves every rank.
    """

    name = "rslora"
    title = "Rank-stabilised LoRA"
    in_auto = False
    order = 61

    def alpha(self, rank: int) -> float:
        """8, whatever the rank: at rank 16 the scale is 2, as LoRA's here, and its rate suits."""
        del rank
        return 8.0

    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """LoRA's matrices with another scale."""
        return self._add(model, config, base, rslora=True)
