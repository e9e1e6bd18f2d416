"""Which token comes next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from luthier.generation.options import Sampling


def source(seed: int, prompt: Sequence[int]) -> torch.Generator:
    """The random numbers of one answer: they depend on seed and prompt, never on the neighbours."""
    named = hashlib.sha256(f"{seed}:{','.join(map(str, prompt))}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(named[:8], "big") >> 1)


def choose(scores: torch.Tensor, sampling: Sampling, draws: list[torch.Generator]) -> torch.Tensor:
    """One token id a row, (rows,), on the CPU, from float32 logits (rows, vocabulary)."""
    if sampling.temperature == 0:
        return scores.argmax(dim=-1).cpu()
    probabilities = torch.softmax(scores.cpu().double() / sampling.temperature, dim=-1)
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    # the nucleus: the fewest tokens whose probabilities reach top_p (Holtzman et al. 2020)
    outside = ranked.cumsum(dim=-1) - ranked >= sampling.top_p
    ranked = ranked.masked_fill(outside, 0.0)
    picks = [
        torch.multinomial(row, 1, generator=draw) for row, draw in zip(ranked, draws, strict=True)
    ]
    return order.gather(1, torch.stack(picks))[:, 0]
