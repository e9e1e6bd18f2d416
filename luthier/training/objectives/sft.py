"""Supervised fine-tuning: the next token of the answers, given everything before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from luthier.models.heads import body
from luthier.prompts.prompt import Taught
from luthier.training.losses import IGNORED, next_token_loss
from luthier.training.objective import OBJECTIVES


@dataclass(frozen=True)
class Item:
    """One conversation: `ids` (n,) are read; `targets` (n,) are the ids one place on, or IGNORED.

    Targets are stored already shifted, so no later step can shift across a boundary.
    """

    ids: list[int]
    targets: list[int]

    @property
    def length(self) -> int:
        """Tokens, padding not counted."""
        return len(self.ids)

    @property
    def weight(self) -> int:
        """How many targets carry loss; what the loss of a whole step is divided by."""
        return sum(target != IGNORED for target in self.targets)


@OBJECTIVES.register("sft")
class Sft:
    """Sum of cross-entropies over the trained tokens."""

    def item(self, taught: Taught) -> Item:
        """Shift once, here."""
        targets = [
            token if trained else IGNORED
            for token, trained in zip(taught.ids[1:], taught.trained[1:], strict=True)
        ]
        # the last token predicts nothing, so it need not be read
        return Item(taught.ids[:-1], targets)

    def loss(self, model: Any, items: Sequence[Item]) -> torch.Tensor:
        """The summed loss of one micro-batch, a scalar. Nothing is averaged here.

        Rows are padded on the right and no mask is passed: causal attention never looks ahead, so
        padding cannot reach a real token, and masked positions never meet the vocabulary.
        """
        device = next(model.parameters()).device
        width = max(item.length for item in items)
        ids = torch.zeros(len(items), width, dtype=torch.long)
        targets = torch.full((len(items), width), IGNORED, dtype=torch.long)
        for row, item in enumerate(items):
            ids[row, : item.length] = torch.tensor(item.ids)
            targets[row, : item.length] = torch.tensor(item.targets)
        ids, targets = ids.to(device), targets.to(device)
        hidden = body(model)(input_ids=ids, use_cache=False).last_hidden_state
        chosen = targets != IGNORED
        return next_token_loss(model, hidden[chosen], targets[chosen])
