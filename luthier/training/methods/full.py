"""Full fine-tuning: every weight of the model is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luthier.training.method import METHODS, TuningMethod
from luthier.training.methods.lora import Lora

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig


@METHODS.register("full")
class Full(TuningMethod):
    """Trains all parameters; slower, larger to store, and more is forgotten than with LoRA."""

    name = "full"
    title = "Full fine-tuning"
    order = 90
    like = "full"
    fused = True

    def learning_rate(self, hidden_size: int) -> float:
        """A tenth of LoRA's."""
        return Lora().learning_rate(hidden_size) / 10

    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """Open every weight."""
        del config, base
        from luthier.models.quantized import refuse_quantized

        refuse_quantized(model)
        return model.requires_grad_(True)
