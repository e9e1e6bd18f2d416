"""Supervised fine-tuning: the next token of the answers, given everything before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from luthier.data.examples import Example
from luthier.models.heads import body, keeps_state
from luthier.prompts.prompt import Taught
from luthier.training.config import TrainingConfig
from luthier.training.fused.model import fused
from luthier.training.losses import IGNORED
from luthier.training.objective import OBJECTIVES, Material, StageObjective
from luthier.training.prefix import after_prefix
from luthier.training.recompute import recomputes
from luthier.training.rows import teach_all, teach_validation
from luthier.training.weighted import chosen_weights, weighted_loss

#: Tokens a micro-batch must save before a pass of its own for the shared beginning pays: on short
#: rows a second pass through many small operations costs more than it saves (docs/log.md).
PAYS = 512
#: Shorter common beginnings are cheaper computed in every row.
WORTH_SHARING = 16


@dataclass(frozen=True)
class Item:
    """One conversation: `ids` (n,) are read; `targets` (n,) are the ids one place on, or IGNORED.

    Targets are stored already shifted, so no later step can shift across a boundary. `weights` (n,)
    are what the targets' losses count, None for 1 each.
    """

    ids: list[int]
    targets: list[int]
    weights: list[float] | None = None

    @property
    def length(self) -> int:
        """Tokens, padding not counted."""
        return len(self.ids)

    @property
    def weight(self) -> float:
        """How many targets carry loss, or the sum of their weights; what the loss of a whole step
        is divided by."""
        if self.weights is not None:
            return math.fsum(self.weights)
        return sum(target != IGNORED for target in self.targets)


@OBJECTIVES.register("sft")
class Sft(StageObjective):
    """Sum of cross-entropies over the trained tokens."""

    name = "sft"
    title = "Supervised fine-tuning"
    reads = frozenset({"loss_on", "replay"})
    fused = True

    def material(
        self,
        examples: Sequence[Example],
        validation: Sequence[Example],
        config: TrainingConfig,
    ) -> Material:
        """Conversations, rendered by the prompt."""
        assert self.prompt is not None
        kept: list[int] = []
        taught, notes = teach_all(self.prompt, examples, config, kept)
        held_out, said = teach_validation(self.prompt, validation, config)
        return Material(
            items=[self.item(one) for one in taught],
            kept=kept,
            held_out=[self.item(one) for one in held_out],
            notes=[*notes, *self.prompt.notes, *said],
        )

    def item(self, taught: Taught) -> Item:
        """Shift once, here."""
        targets = [
            token if trained else IGNORED
            for token, trained in zip(taught.ids[1:], taught.trained[1:], strict=True)
        ]
        # the last token predicts nothing, so it need not be read
        return Item(taught.ids[:-1], targets, taught.weights and taught.weights[1:])

    def sizes(self, items: Sequence[Item]) -> list[int]:
        """Their lengths without the beginning they share, which a micro-batch computes once."""
        shared = shared_prefix(items)
        return [item.length - shared for item in items]

    def loss(self, model: Any, items: Sequence[Item]) -> torch.Tensor:
        """The summed loss of one micro-batch, a scalar. Nothing is averaged here.

        Where the hand-written layers run, rows lie one after another without padding. Elsewhere
        they are padded on the right and no mask is passed: causal attention never looks ahead, so
        padding cannot reach a real token. Masked positions never meet the vocabulary.

        What all rows start with (the task's instruction) is computed once, with its gradient, and
        the rows attend to it: the same sums in another order.
        """
        device = next(model.parameters()).device
        fast = fused(model)
        # layers that are computed again in the backward pass keep no keys to attend to
        alone = keeps_state(model) or recomputes(model)
        shared = 0 if alone else shared_prefix(items)
        if not (fast.kernels.shares_prefix if fast else pays(shared, len(items))):
            shared = 0
        if fast:
            prefix = torch.tensor(items[0].ids[:shared], device=device) if shared else None
            ids = torch.tensor([token for item in items for token in item.ids[shared:]])
            targets = torch.tensor([token for item in items for token in item.targets[shared:]])
            ids, targets = ids.to(device), targets.to(device)
            chosen = targets != IGNORED
            hidden = fast(prefix, ids, [item.length - shared for item in items], chosen)
        else:
            ids, targets = padded(items, shared)
            ids, targets = ids.to(device), targets.to(device)
            chosen = targets != IGNORED
            if shared:
                beginning = torch.tensor([items[0].ids[:shared]], device=device)
                hidden = after_prefix(body(model), beginning, ids)[chosen]
            else:
                hidden = body(model)(input_ids=ids, use_cache=False).last_hidden_state[chosen]
        weights = chosen_weights([i.weights for i in items], [i.targets for i in items])
        return weighted_loss(model, hidden, targets[chosen], weights)


def padded(items: Sequence[Item], shared: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, targets), each (rows, longest), of what follows the first `shared` tokens; padding is
    on the right and its target is `IGNORED`."""
    width = max(item.length for item in items) - shared
    ids = torch.zeros(len(items), width, dtype=torch.long)
    targets = torch.full((len(items), width), IGNORED, dtype=torch.long)
    for row, item in enumerate(items):
        ids[row, : item.length - shared] = torch.tensor(item.ids[shared:])
        targets[row, : item.length - shared] = torch.tensor(item.targets[shared:])
    return ids, targets


def shared_prefix(items: Sequence[Item]) -> int:
    """How many tokens, none of them trained on, all items start with; 0 where too few to pay.

    The last common token is left to the rows, because what follows it differs.
    """
    if len(items) < 2:
        return 0
    first, last = min(item.ids for item in items), max(item.ids for item in items)
    longest = min(item.length for item in items) - 1
    length = 0
    while length < longest and first[length] == last[length]:
        length += 1
    length -= 1
    untrained = all(target == IGNORED for item in items for target in item.targets[:length])
    return length if length >= WORTH_SHARING and untrained else 0


def pays(shared: int, rows: int) -> bool:
    """Whether computing a shared beginning once saves more than the second pass costs."""
    return shared > 0 and shared * (rows - 1) >= PAYS
