"""Training the last layers of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError
from luthier.training.method import METHODS, TuningMethod
from luthier.training.methods.full import Full

if TYPE_CHECKING:
    import torch

    from luthier.training.config import TrainingConfig


class Freezing(TuningMethod):
    """Trains some of the model's own parameters; only those are stored, as a delta."""

    def store(
        self,
        model: Any,
        weights: Mapping[str, torch.Tensor],
        folder: Path,
        tokenizer: Any,
        *,
        base: str,
    ) -> None:
        """The trained parameters, with the names of base and method."""
        del tokenizer
        from luthier.models.frozen import save_delta

        save_delta(model, weights, folder, method=self.name, base=base)


@METHODS.register("last-layers")
class LastLayers(Freezing):
    """Trains the last `layers` transformer layers and the norm behind them; what lies below, the
    embeddings and the head stay. Nothing is computed backwards through the frozen layers."""

    name = "last-layers"
    title = "Fine-tuning of the last layers"
    order = 80
    reads = frozenset({"layers"})

    def learning_rate(self, hidden_size: int) -> float:
        """Three times that of full fine-tuning: fewer weights have the same way to go.

        After 25 steps on 200 questions of TREC (SmolLM2-135M) the validation loss was 0.89 at full
        fine-tuning's 9e-5, 0.42 at 3e-4 and 0.37 at 1e-3; wide models bear less than that.
        """
        return 3 * Full().learning_rate(hidden_size)

    def layers(self, count: int) -> int:
        """A quarter of them, which reaches about nine tenths of what all of them reach (Lee, Tang &
        Lin 2019, "What Would Elsa Do?", arXiv 1911.03090)."""
        return math.ceil(count / 4)

    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """Open the last layers.

        Raises:
            InputError: the model has fewer layers than are asked for.
        """
        del base
        from luthier.models.frozen import blocks, final_norm, train_only

        found = blocks(model)
        count = config.layers or self.layers(len(found))
        if count > len(found):
            raise InputError(
                f"`training.layers` is {count}, and the model has {len(found)} layers.",
                fix="Lower it, or choose method full.",
            )
        last = [p for layer in list(found)[-count:] for p in layer.parameters()]
        return train_only(model, [*last, *final_norm(model)])
