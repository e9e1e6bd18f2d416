"""LoRA beside a base in 4 bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.training.method import METHODS
from luthier.training.methods.lora import Lora

if TYPE_CHECKING:
    import torch

    from luthier.training.config import TrainingConfig


@METHODS.register("qlora")
class Qlora(Lora):
    """QLoRA (Dettmers et al. 2023, arXiv 2305.14314): the linear layers of the base are packed in
    4 bits (NF4, double quantisation) by bitsandbytes, and LoRA is trained beside them.

    What answers afterwards is what was trained: the adapter is merged into the unpacked 4-bit
    weights in full precision, not into the weights before they were packed, whose logits differ.
    So it saves memory while training, not while answering. Its rate is LoRA's (the paper's table 9:
    2e-4 for 7B and 13B, as usual for LoRA).
    """

    name = "qlora"
    title = "QLoRA fine-tuning (4-bit base)"
    in_auto = False
    fused = False
    order = 65

    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """Pack the weights, then LoRA."""
        from luthier.models.quantized import quantize

        return self._add(quantize(model), config, base, packed=True)

    def store(
        self,
        model: Any,
        weights: Mapping[str, torch.Tensor],
        folder: Path,
        tokenizer: Any,
        *,
        base: str,
    ) -> None:
        """The adapter, and how the base was packed."""
        from luthier.models.quantized import record

        super().store(model, weights, folder, tokenizer, base=base)
        record(model, folder)
