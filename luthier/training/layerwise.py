"""How fast, and from when on, each layer of a model is trained.

Both ideas are those of ULMFiT (Howard & Ruder 2018, arXiv 1801.06146): the layers nearest the
output know least of language in general and should change most.

- Discriminative rates (section 3.2): the rate of a layer is `layer_decay` times that of the layer
  above it. 1 / 2.6 = 0.385 is the paper's; for transformers 0.65 to 0.95 is usual (Clark et al.
  2020, arXiv 2003.10555, appendix B).
- Gradual unfreezing (section 3.3): at first what lies above the layers (a new head) is trained, and
  with every epoch the next layer below is opened as well.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from luthier.models.frozen import blocks
from luthier.training.config import TrainingConfig


class LayerRates:
    """Multiples of the learning rate for the trained parameters of a model.

    Depth 0 is what lies above the layers: a head, the final norm. The last layer has depth 1, the
    first of n layers n, the embeddings n + 1. What an adapter trains counts where it stands.

    Args:
        model: ready to be trained.
        config: `layer_decay` and `unfreeze`.
        steps: optimiser steps of the stage.
        examples: how many there are: with the batch size, the steps of an epoch.

    Raises:
        ModelError: the model's layers cannot be told apart.
    """

    def __init__(self, model: Any, config: TrainingConfig, steps: int, examples: int) -> None:
        self.depths = depths(model)
        self.decay = config.layer_decay
        self._parameters = {n: p for n, p in model.named_parameters() if n in self.depths}
        groups = sorted(set(self.depths.values()))
        epoch = math.ceil(examples / config.batch_size)
        # with fewer epochs than layers each is opened sooner, so that all are trained in the end
        span = min(epoch, steps / len(groups)) if config.unfreeze == "gradual" else 0
        self._opens = {depth: round(place * span) for place, depth in enumerate(groups)}

    def at(self, step: int) -> dict[str, float]:
        """What each parameter's rate is multiplied by in a step, counted from 0; 0 where it is not
        trained yet. Nothing is computed backwards to those."""
        found = {}
        for name, depth in self.depths.items():
            is_open = step >= self._opens[depth]
            self._parameters[name].requires_grad_(is_open)
            found[name] = self.decay**depth if is_open else 0.0
        return found

    def release(self) -> None:
        """Leave the parameters open to gradients, as they were given."""
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)


def depths(model: Any) -> dict[str, int]:
    """Name -> depth of every trained parameter; see `LayerRates`."""
    layers = blocks(model)
    inside = {
        id(parameter): len(layers) - index
        for index, layer in enumerate(layers)
        for parameter in layer.parameters()
    }
    below: set[int] = set()
    for name, module in model.named_modules():
        if "embed" in name.rsplit(".", 1)[-1] or isinstance(module, torch.nn.Embedding):
            below |= {id(parameter) for parameter in module.parameters()}
    return {
        name: inside.get(id(p), len(layers) + 1 if id(p) in below else 0)
        for name, p in model.named_parameters()
        if p.requires_grad
    }
