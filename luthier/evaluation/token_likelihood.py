"""What a model thinks of every token of a text: the numbers that bits per byte and membership
inference are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Rows of logits that exist at once.
_LOGIT_ROWS = 512


@dataclass(frozen=True, eq=False)
class TokenScores:
    """Of the n scored tokens of one row.

    Attributes:
        logprob: natural log-probability of the token, (n,).
        mean: expected log-probability of a token drawn from the model at that place, (n,).
        deviation: its standard deviation, (n,).
        greedy: whether the token is the likeliest, (n,) of bool: where all are, greedy decoding
            would write just this.
    """

    logprob: Array
    mean: Array
    deviation: Array
    greedy: NDArray[np.bool_]

    @property
    def total(self) -> float:
        """Log-probability of all of them, nats."""
        return float(self.logprob.sum())


def token_scores(
    model: Any,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_tokens: int = 4096,
    progress: Callable[[int], None] | None = None,
) -> list[TokenScores]:
    """Score given tokens after given contexts.

    Args:
        model: a causal LM in evaluation mode.
        rows: (context ids, at least one; ids that are scored) pairs.
        batch_tokens: tokens of one batch, padding counted.
        progress: called with the number of rows that are done.

    Returns:
        One for each row, in order.

    Raises:
        ValueError: a context is empty.
    """
    import torch

    from luthier.generation.runner import batches
    from luthier.models.heads import body
    from luthier.models.packed import packed

    if not all(len(context) for context, _ in rows):
        raise ValueError("a context has no tokens")
    device = next(model.parameters()).device
    done: dict[int, TokenScores] = {}
    lengths = [len(context) + len(scored) for context, scored in rows]
    with torch.inference_mode(), packed(model):
        for batch in batches(lengths, 0, tokens=batch_tokens, rows=64):
            # padding is on the right: no real token looks at what comes after it
            ids = torch.zeros(len(batch), max(lengths[row] for row in batch), dtype=torch.long)
            places: list[tuple[int, int]] = []
            goals: list[int] = []
            for at, row in enumerate(batch):
                context, scored = rows[row]
                ids[at, : lengths[row]] = torch.tensor([*context, *scored])
                places += [(at, len(context) - 1 + i) for i in range(len(scored))]
                goals += [int(token) for token in scored]
            hidden = body(model)(input_ids=ids.to(device), use_cache=False).last_hidden_state
            found = _at(model, hidden, places, goals)
            start = 0
            for row in batch:
                end = start + len(rows[row][1])
                done[row] = TokenScores(
                    found[0, start:end],
                    found[1, start:end],
                    found[2, start:end],
                    found[3, start:end] > 0,
                )
                start = end
            if progress:
                progress(len(batch))
    return [done[row] for row in range(len(rows))]


def _at(model: Any, hidden: Any, places: list[tuple[int, int]], goals: list[int]) -> Array:
    """(4, n): log-probability, its mean, its deviation, and whether it is the highest."""
    import torch

    from luthier.models.heads import logits

    parts = [np.zeros((4, 0))]
    for start in range(0, len(places), _LOGIT_ROWS):
        at = torch.tensor(places[start : start + _LOGIT_ROWS], device=hidden.device)
        goal = torch.tensor(goals[start : start + _LOGIT_ROWS], device=hidden.device)
        log = torch.log_softmax(logits(model, hidden[at[:, 0], at[:, 1]]), dim=-1)
        share = log.exp()
        mean = (share * log).sum(dim=-1)
        spread = (share * (log - mean[:, None]).square()).sum(dim=-1)
        own = log.gather(1, goal[:, None])[:, 0]
        best = (log.argmax(dim=-1) == goal).to(own.dtype)
        parts.append(torch.stack([own, mean, spread.sqrt(), best]).double().cpu().numpy())
    return np.concatenate(parts, axis=1)
