"""Training the input embeddings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from luthier.training.method import METHODS
from luthier.training.methods.last_layers import Freezing
from luthier.training.methods.lora import Lora

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig


@METHODS.register("embeddings")
class Embeddings(Freezing):
    """Trains the matrix that turns tokens into vectors, and nothing else.

    In a model whose head is tied to its embeddings (most small ones) they are one matrix: training
    it changes how tokens are read and how they are written. The gradient passes through all layers,
    so a step takes about as long as with LoRA.
    """

    name = "embeddings"
    title = "Fine-tuning of the embeddings"
    order = 82

    def learning_rate(self, hidden_size: int) -> float:
        """That of LoRA. After 25 steps on 200 questions of TREC (SmolLM2-135M) the validation loss
        was 7.1 at full fine-tuning's 9e-5 and 0.65 at 1e-3."""
        return Lora().learning_rate(hidden_size)

    def prepare(self, model: Any, config: TrainingConfig, *, base: str) -> Any:
        """Open the embeddings."""
        del config, base
        from luthier.models.frozen import train_only

        return train_only(model, model.get_input_embeddings().parameters())
