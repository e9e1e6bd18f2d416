"""Low-rank adaptation: small matrices beside the model's own are trained, the model is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luthier.training.method import METHODS, TuningMethod

#: What every method with low-rank matrices reads of the training section.
LOW_RANK = frozenset({"rank", "alpha", "dropout", "targets"})

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig


@METHODS.register("lora")
class Lora(TuningMethod):
    """LoRA on all linear layers (Hu et al. 2021, arXiv 2106.09685)."""

    name = "lora"
    title = "LoRA fine-tuning"
    in_auto = True
    fused = True
    order = 60
    reads = LOW_RANK

    def learning_rate(self, hidden_size: int) -> float:
        """5e-4 at width 2000, more for narrower models.

        LoRA wants about ten times the rate of full fine-tuning (Thinking Machines, "LoRA Without
        Regret", 2025), and narrow models want more than wide ones; falling with the square root of
        the width gives 9.3e-4 for SmolLM2-135M, close to the 1e-3 that measured best on TREC.
        """
        return float(min(1e-3, max(1e-4, 5e-4 * (2000 / hidden_size) ** 0.5)))

    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """Adapters on every linear layer but the head, or on those of `targets`."""
        return self._add(model, config, base)

    def _add(self, model: Any, config: TrainingConfig, base: str, **kind: bool) -> Any:
        from luthier.models.adapters import add_lora

        return add_lora(
            model,
            rank=config.rank,
            alpha=config.alpha,
            dropout=config.dropout,
            targets=config.targets,
            base=base,
            **kind,
        )
