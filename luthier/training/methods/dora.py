"""Weight-decomposed LoRA: direction by low-rank matrices, length by a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luthier.training.method import METHODS
from luthier.training.methods.lora import Lora

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig


@METHODS.register("dora")
class Dora(Lora):
    """DoRA (Liu et al. 2024, arXiv 2402.09353): LoRA changes the direction of every output's
    weights, and a number for each output their length.

    Slower than LoRA: every step measures the lengths of all adapted weights. Its rate is LoRA's:
    the paper takes over LoRA's settings, or half its rate (tables 8 to 10).
    """

    name = "dora"
    title = "DoRA fine-tuning"
    in_auto = False
    fused = False
    order = 64

    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """LoRA's matrices and a length for every output, which starts at the base's own."""
        return self._add(model, config, base, with_dora=True)
