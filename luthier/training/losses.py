"""Cross-entropy that owns the output head, computed in chunks.

The logits of a few hundred tokens over a vocabulary of 49,152 are larger than the model's
activations. Here they exist for one chunk at a time, and the gradient is computed while they are
there, so that backward needs no logits at all (the idea of Liger's fused linear cross-entropy).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from luthier.models.allocator import lasting
from luthier.models.heads import logits
from luthier.training.fused.native import PRECISIONS, native
from luthier.training.fused.on_cpu_native import OnCpuNative
from luthier.training.fused.on_gpu import softmax_gradient
from luthier.training.fused.tied import announce

IGNORED = -100
_CHUNK = 512
#: Rows of scores that are worked on at once, so that they stay in the processor's cache.
_CACHED = 8
#: Bytes of scores that are held at once on a GPU.
_ON_GPU = 1 << 30
#: Words whose gradients are added up at once.
_WORDS = 4096
#: Probabilities below this are taken the long way, through the log-sum-exp.
_TINY = 1e-30


class LinearCrossEntropy(torch.autograd.Function):
    """sum_i -log softmax(hidden_i W^T)[target_i], with its gradient found in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        """hidden (n, d), weight (v, d), targets (n,) without ignored ones; float32 scalar."""
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if need_hidden else None
        d_weight: torch.Tensor | None = None
        on_gpu = hidden.device.type == "cuda"
        if on_gpu:  # which starts few large operations sooner than many small ones
            chunk = max(chunk, _ON_GPU // (weight.shape[0] * weight.element_size()))
        if need_weight and hidden.shape[0] > chunk:
            # adding up in float32 takes 4 v d bytes and passes over them; twice d rows of scores
            # take no more, so so many are held instead
            chunk = max(chunk, _even(hidden.shape[0], 2 * weight.shape[1]))
        rows = min(chunk, hidden.shape[0])
        lasts = need_hidden and not on_gpu
        held = _scores(rows, weight) if lasts else hidden.new_empty(rows, weight.shape[0])
        by = softmax_gradient if on_gpu else _on_cpu(rows, weight)
        for start in range(0, hidden.shape[0], chunk):
            part = slice(start, start + chunk)
            scores = held[: hidden[part].shape[0]]
            torch.mm(hidden[part], weight.T, out=scores)
            total += by(scores, targets[part, None])
            if d_hidden is not None:
                torch.mm(scores, weight, out=d_hidden[part])
            if need_weight:
                d_weight = _add_product(d_weight, scores, hidden[part], hidden.shape[0] <= chunk)
        ctx.gradients = d_hidden, d_weight
        ctx.weight = weight
        return total

    @staticmethod
    def backward(ctx: Any, d_total: torch.Tensor) -> tuple[Any, ...]:
        """Scale what forward found, where it lies: so this can be done once."""
        d_hidden, d_weight = ctx.gradients
        weight = ctx.weight
        del ctx.gradients, ctx.weight
        if d_hidden is not None:
            d_hidden = d_hidden.mul_(d_total.to(d_hidden.dtype))
        if d_weight is not None:
            d_weight = d_weight.mul_(d_total.to(d_weight.dtype)).to(weight.dtype)
            announce(weight, d_weight)
        return d_hidden, d_weight, None, None


#: Room for the scores of one chunk. No block of a step is larger: freed, it would be cut into
#: pieces, and asked for again, be fresh from the system, where writing to it took longer than the
#: arithmetic.
_HELD: dict[torch.dtype, torch.Tensor] = {}


def _scores(rows: int, weight: torch.Tensor) -> torch.Tensor:
    """Room for (rows, v) in the weight's precision, on a CPU."""
    words, width = weight.shape
    held = _HELD.get(weight.dtype)
    if held is None or held.numel() < rows * words:
        _HELD.clear()
        # as many rows as there may ever be: what is not written to takes no memory
        most = max(rows, 2 * width) if weight.requires_grad else rows
        with lasting():
            held = _HELD[weight.dtype] = weight.new_empty(most * words)
    return held[: rows * words].view(rows, words)


def forget() -> None:
    """Let go of the room for scores: nothing is trained for now."""
    _HELD.clear()


def _even(rows: int, most: int) -> int:
    """The size of equal parts, of at most `most` rows each."""
    parts = -(-rows // most)
    return -(-rows // parts)


def _add_product(
    total: torch.Tensor | None, scores: torch.Tensor, hidden: torch.Tensor, only: bool
) -> torch.Tensor:
    """`total` (v, d) + scores (n, v)^T hidden (n, d): in float32, unless it is the only one."""
    if only:
        with lasting():  # too large for the holes of a heap
            out = hidden.new_empty(scores.shape[1], hidden.shape[1])
        return torch.mm(scores.T, hidden, out=out)
    if total is None:
        shape = (scores.shape[1], hidden.shape[1])
        total = torch.zeros(shape, dtype=torch.float32, device=hidden.device)
    for start in range(0, total.shape[0], _WORDS):  # small enough to be added from the cache
        words = slice(start, start + _WORDS)
        total[words] += scores[:, words].T @ hidden
    return total


def _on_cpu(
    rows: int, weight: torch.Tensor
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """`softmax_gradient` on this machine, for at most so many rows of scores."""
    compiled = native()
    if compiled and weight.dtype in PRECISIONS:
        return OnCpuNative(compiled).loss
    some_rows = min(_CACHED, rows)
    room = _Room(some_rows, weight)

    def by_parts(scores: torch.Tensor, goals: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32)
        for some, wanted in zip(scores.split(some_rows), goals.split(some_rows), strict=True):
            total += _loss_and_gradient(some, wanted, room)
        return total

    return by_parts


class _Room:
    """Room for some rows of scores in float32, and for their probabilities."""

    def __init__(self, rows: int, weight: torch.Tensor) -> None:
        shape = (rows, weight.shape[0])
        self.scores = torch.empty(shape, dtype=torch.float32, device=weight.device)
        self.probabilities = torch.empty_like(self.scores)


def _loss_and_gradient(scores: torch.Tensor, goals: torch.Tensor, room: _Room) -> torch.Tensor:
    """The summed cross-entropy of scores (n, v) against goals (n, 1), float32; the scores are
    overwritten with its gradient, softmax - one_hot."""
    exact = room.scores[: scores.shape[0]].copy_(scores)
    probabilities = torch.softmax(exact, dim=-1, out=room.probabilities[: scores.shape[0]])
    goal = probabilities.gather(1, goals)
    if bool((goal < _TINY).any()):  # where the logarithm of a float32 would lose its digits
        total = (torch.logsumexp(exact, -1, keepdim=True) - exact.gather(1, goals)).sum()
    else:
        total = -goal.log().sum()
    probabilities.scatter_add_(1, goals, goal.new_full(goals.shape, -1.0))
    scores.copy_(probabilities)
    return total


def next_token_loss(
    model: Any, hidden: torch.Tensor, targets: torch.Tensor, chunk: int = _CHUNK
) -> torch.Tensor:
    """The summed cross-entropy of hidden states (n, d) against target ids (n,), float32 scalar.

    Heads that are more than a matrix (a bias, a soft cap, an adapter) go through `heads.logits`
    with recomputation, which is slower and holds no more memory.
    """
    head = model.get_output_embeddings()
    config = model.config.get_text_config()
    plain = (
        type(head) is torch.nn.Linear
        and head.bias is None
        and not any(
            getattr(config, name, None)
            for name in ("logit_scale", "logits_scaling", "final_logit_softcapping")
        )
    )
    if plain:
        return LinearCrossEntropy.apply(hidden, head.weight, targets, chunk)  # type: ignore[no-any-return]

    def part_loss(part: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits(model, part), goal, reduction="sum")

    # starts from the hidden states so that there is a gradient when no token is trained
    total = hidden[:0].float().sum()
    for start in range(0, hidden.shape[0], chunk):
        part = slice(start, start + chunk)
        total = total + checkpoint(part_loss, hidden[part], targets[part], use_reentrant=False)
    return total
