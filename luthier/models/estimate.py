"""What using or training a model takes here: arithmetic from its sizes, and one measured rate.

Memory is counted piece by piece. Time is floating-point operations over the rate at which this
machine multiplies matrices of that kind, times the share of that rate which real work reaches.
The constants were fitted on a 2-core machine with bfloat16 units; see `docs/log.md`.
"""

from __future__ import annotations

import functools
import statistics
import time
from dataclasses import dataclass
from typing import Literal

from luthier.models.info import ModelInfo
from luthier.models.machine import Machine, this_machine

Use = Literal["prompt", "lora", "full"]
Precision = Literal["auto", "float32", "bfloat16"]

#: Python with torch, transformers and peft imported, and the allocator's slack: measured.
_PROCESS = 800_000_000
#: Activations while the backward pass writes gradients beside them: measured, 117 to 256 tokens.
_BACKWARD = 1.3
#: Share of the matrix rate that work reaches: measured, the rest is attention, norms and Python.
_EFFICIENCY: dict[Use, float] = {"prompt": 0.5, "lora": 0.31, "full": 0.26}
#: The same of the hand-written layers (training/fused), which large batches reach, and what a
#: micro-batch takes besides, in seconds for each layer: measured on 96 to 2,000 tokens at a time.
_BY_HAND: dict[Use, float] = {"lora": 0.81, "full": 0.82}
_LAYER_SECONDS = 0.0023
#: Seconds of an optimiser step for each trained parameter: measured.
_UPDATE_SECONDS = 0.45e-9
#: Keys and scores of rows up to so many tokens are kept for the backward pass; longer ones are
#: computed again (training/fused/on_cpu_native.py).
_KEPT_ROW = 256
#: Rows of logits that exist at once while the loss is computed in chunks.
_LOGIT_ROWS = 512
#: Models whose layers are written by hand for training on a CPU.
HAND_WRITTEN = frozenset({"llama", "mistral", "qwen2"})
#: Fraction of the free memory that may be planned with.
_HEADROOM = 0.9


@dataclass(frozen=True)
class Estimate:
    """What one use of a model takes.

    Attributes:
        use: "prompt" (reading), "lora" or "full" (training).
        peak_memory_bytes: of the process, its libraries included.
        tokens_per_second: real tokens read, or trained on, a second, in large batches.
        micro_batch_seconds: what every micro-batch takes besides, however small it is.
        update_seconds: what the optimiser takes in every step.
        flops_per_token: floating-point operations for each of them.
        fits: whether the memory is there now, with a tenth to spare.
        how: the arithmetic in words.
    """

    use: Use
    peak_memory_bytes: int
    tokens_per_second: float
    flops_per_token: float
    fits: bool
    how: str
    micro_batch_seconds: float = 0.0
    update_seconds: float = 0.0

    @property
    def seconds_per_1000_tokens(self) -> float:
        """Wall time of a thousand tokens."""
        return 1000 / self.tokens_per_second

    def seconds(self, tokens: float, steps: float, micro_batches: float | None = None) -> float:
        """Wall time of training on so many tokens.

        Args:
            tokens: computed, all steps together.
            steps: of the optimiser.
            micro_batches: as many as steps when None.
        """
        parts = steps if micro_batches is None else micro_batches
        fixed = parts * self.micro_batch_seconds + steps * self.update_seconds
        return tokens / self.tokens_per_second + fixed


def lora_parameters(info: ModelInfo, rank: int) -> int:
    """Parameters of LoRA on all linear layers: rank * (in + out), summed over the seven.

    Query, key, value and output projections, and the three of a gated feed-forward part.
    """
    attention = info.heads * info.head_dim
    keys = info.key_value_heads * info.head_dim
    widths = (
        2 * (info.hidden_size + attention)
        + 2 * (info.hidden_size + keys)
        + 3 * (info.hidden_size + info.intermediate_size)
    )
    return info.layers * rank * widths


def activation_bytes(
    info: ModelInfo,
    use: Use,
    *,
    row_tokens: int,
    width: int,
    rank: int = 16,
    eager: bool = True,
    fused: bool = False,
) -> int:
    """Bytes a token leaves behind for the backward pass, over all layers.

    Counted with saved-tensor hooks on Llama layers, in elements of the computing precision: 6
    times the hidden size with frozen weights (8 with trained ones), 4 times the feed-forward
    width, 4 times the width of the attention, and for eager attention 3 scores for each head and
    earlier or later token of the row.

    Args:
        info: the model.
        use: "lora" or "full".
        row_tokens: tokens of one row, which its scores are quadratic in.
        width: bytes of an element.
        rank: of the adapters.
        eager: whether attention writes its scores down.
        fused: of the hand-written layers: the input and the residual stream in the middle,
            queries, keys and values, what attention gives, gate and up, the low-rank inputs of
            LoRA, and one score for each head and token of a short row. (Without a C compiler the
            two normalised inputs as well.)
    """
    frozen = use == "lora"
    if fused:
        heads = info.heads * info.head_dim
        elements = (
            2 * info.hidden_size
            + 2 * info.intermediate_size
            + 2 * heads
            + 2 * info.key_value_heads * info.head_dim
            + (info.heads * row_tokens if row_tokens <= _KEPT_ROW else 0)
            + (7 * rank if frozen else 0)
        )
        return info.layers * elements * width
    hidden = 6 if frozen else 8
    if info.model_type.startswith("gemma"):
        hidden += 8  # norms after each part as well as before, and on queries and keys
    elements = (
        hidden * info.hidden_size
        + 4 * info.intermediate_size
        + (4 if eager else 2) * info.heads * info.head_dim
        + (3 * info.heads * row_tokens if eager else 0)
        + (7 * rank if frozen else 0)
    )
    return info.layers * elements * width


def estimate(
    info: ModelInfo,
    use: Use,
    *,
    micro_tokens: int = 1024,
    row_tokens: int = 128,
    trained_fraction: float = 1.0,
    rank: int = 16,
    precision: Precision = "auto",
    machine: Machine | None = None,
    rate: float | None = None,
    fused: bool | None = None,
    micro_batches: int = 1,
    held: int = 0,
) -> Estimate:
    """What using a model in one way takes on this machine.

    Args:
        info: from `loading.describe`.
        use: "prompt" reads and answers, "lora" and "full" train.
        micro_tokens: tokens computed at once.
        row_tokens: tokens of one row.
        trained_fraction: share of the tokens that carry loss and so meet the vocabulary.
        rank: of the adapters.
        precision: "auto" is what the arms use: float32 for answering on a CPU, bfloat16 for
            training where it is fast, and on a GPU.
        machine: where; this one when None.
        rate: matrix products in operations a second; measured here when None (0.2 s, once).
        fused: whether the hand-written layers train it; where they can when None.
        micro_batches: of a step, whose gradients are added up.
        held: bytes that this process holds already, the model included, where it is going to do it:
            what earlier work left there stays.
    """
    machine = machine or this_machine()
    if fused is None:
        fused = info.model_type in HAND_WRITTEN and not machine.gpus
    fused = fused and use != "prompt"
    if precision == "auto":
        half = machine.fast_bfloat16 and (use != "prompt" or bool(machine.gpus))
        precision = "bfloat16" if half else "float32"
    width = 2 if precision == "bfloat16" else 4
    if rate is None:
        rate = matrix_rate(precision, bool(machine.gpus))
    pieces = _memory(
        info, use, micro_tokens, row_tokens, rank, width, trained_fraction, fused, micro_batches
    )
    pieces["program"] = max(pieces["program"], held - pieces["weights"])
    peak = sum(pieces.values())
    flops = _flops(info, use, row_tokens, trained_fraction, rank)
    share = _BY_HAND[use] if fused else _EFFICIENCY[use]
    speed = rate * share / flops
    trained = lora_parameters(info, rank) if use == "lora" else info.parameters
    room = machine.gpus[0].memory if machine.gpus else machine.memory_available + process_bytes()
    how = (
        f"{_gb(peak)} = "
        + " + ".join(f"{_gb(size)} {what}" for what, size in pieces.items())
        + f". {flops / 1e6:,.0f} million operations a token at {share:.0%} of "
        f"{rate / 1e9:,.0f} GFLOP/s in {precision} = {speed:,.0f} tokens/s."
    )
    return Estimate(
        use,
        peak,
        speed,
        flops,
        peak <= _HEADROOM * room,
        how,
        micro_batch_seconds=info.layers * _LAYER_SECONDS if fused else 0.0,
        update_seconds=trained * _UPDATE_SECONDS if fused else 0.0,
    )


def _memory(
    info: ModelInfo,
    use: Use,
    micro_tokens: int,
    row_tokens: int,
    rank: int,
    width: int,
    trained_fraction: float,
    fused: bool,
    micro_batches: int,
) -> dict[str, int]:
    """Named parts of the peak, in bytes."""
    pieces = {"program": _PROCESS, "weights": info.parameters * width}
    if use == "prompt":
        keys = 2 * info.layers * info.key_value_heads * info.head_dim
        # nothing is kept for a backward pass: one layer's intermediate values and the cache
        alive = 4 * info.hidden_size + 3 * info.intermediate_size + 2 * info.heads * row_tokens
        pieces["keys, values and activations"] = micro_tokens * (keys + alive) * width
        return pieces
    trained = lora_parameters(info, rank) if use == "lora" else info.parameters
    own = trained * width if use == "lora" else 0
    # a master and two moments of Adam
    pieces["masters and optimiser"] = own + trained * (4 + 8)
    kept = activation_bytes(info, use, row_tokens=row_tokens, width=width, rank=rank, fused=fused)
    if fused:
        # the widest layer's values and their gradients stand beside what is kept
        beside = 4 * info.intermediate_size + 2 * info.hidden_size
        pieces["activations"] = micro_tokens * (kept + beside * width)
    else:
        pieces["activations"] = round(_BACKWARD * micro_tokens * kept)
    logits = _logits(info, use, max(1, round(trained_fraction * micro_tokens)), width)
    if logits:
        pieces["logits"] = logits
    if not fused:  # the modules' path frees less in time
        pieces["gradients"] = trained * (width + 4)
        return pieces
    # what is there before a micro-batch: nothing, the first one's gradients, or their sums
    held = trained * (0 if micro_batches == 1 else width if micro_batches == 2 else 4)
    at_update = trained * (width if micro_batches == 1 else width + 4)
    if at_update > pieces["activations"] + logits + held:
        del pieces["activations"]
        pieces.pop("logits", None)
        held = at_update
    if held:
        pieces["gradients"] = held
    return pieces


def _logits(info: ModelInfo, use: Use, scored: int, width: int) -> int:
    """Bytes of the loss of so many scored tokens (training/losses.py)."""
    if info.kind != "causal":
        return 0
    if use == "full":
        # a head's gradient is found at once, from more rows, or added up in float32
        rows = min(scored, max(_LOGIT_ROWS, 2 * info.hidden_size))
        return rows * info.vocab_size * width + info.embedding_parameters * (width + 4)
    return min(_LOGIT_ROWS, scored) * info.vocab_size * width


def _flops(info: ModelInfo, use: Use, row_tokens: int, trained_fraction: float, rank: int) -> float:
    """Operations for one token: 2 a weight forward, 2 back to the inputs, 2 for the weight's own
    gradient where it is trained (Kaplan et al. 2020, arXiv 2001.08361, section 2.1)."""
    passes = {"prompt": 2, "lora": 4, "full": 6}[use]
    scores = 2 * info.layers * info.heads * info.head_dim * row_tokens
    total = passes * info.body_parameters + {"prompt": 2, "lora": 6, "full": 6}[use] * scores
    if use == "lora":
        total += 6 * lora_parameters(info, rank)
    if info.kind == "causal" and use != "prompt":
        total += round(trained_fraction * passes * info.embedding_parameters)
    return float(max(total, 1))


@functools.cache
def matrix_rate(precision: Literal["float32", "bfloat16"], gpu: bool = False) -> float:
    """Operations a second of matrix products here: the median of a fifth of a second, once.

    Args:
        precision: of the matrices.
        gpu: measure the GPU.
    """
    import torch

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    device = "cuda" if gpu else "cpu"
    rows, inner, columns = (8192, 4096, 4096) if gpu else (1024, 576, 1536)
    a = torch.ones(rows, inner, dtype=dtype, device=device)
    b = torch.ones(columns, inner, dtype=dtype, device=device)
    spent: list[float] = []
    with torch.inference_mode():
        torch.nn.functional.linear(a, b)  # the first product also sets the library up
        until = time.perf_counter() + 0.2
        while not spent or time.perf_counter() < until:
            start = time.perf_counter()
            torch.nn.functional.linear(a, b)
            if gpu:
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - start)
    return 2 * rows * inner * columns / statistics.median(spent)


def process_bytes() -> int:
    """What this process already holds."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
