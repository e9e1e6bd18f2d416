"""Which examples each optimiser step sees: a pure function of lengths, settings and the seed.

So a resumed run needs to store no data position, only the number of steps done.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Literal

_POOL = 32


def plan(
    lengths: Sequence[int],
    *,
    batch_size: int,
    epochs: float,
    seed: int,
    order: Literal["shuffled", "given"] = "shuffled",
) -> list[list[int]]:
    """Indices of the examples of every step.

    Each epoch visits every example once, in a new order. Within a pool of 32 batches examples are
    sorted by length before they are cut into batches, so that little is padding; the batches then
    come in random order. A fraction of an epoch takes that fraction of its batches.

    Args:
        lengths: tokens of each example.
        batch_size: examples a step; the last batch of an epoch may hold fewer.
        epochs: passes over the data; at least one step is planned when there is any data.
        seed: decides the order.
        order: "given" takes the examples as they come, once, whatever `epochs` is.
    """
    if not lengths:
        return []
    if order == "given":
        rows = list(range(len(lengths)))
        return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    steps: list[list[int]] = []
    per_epoch = math.ceil(len(lengths) / batch_size)
    wanted = max(1, round(epochs * per_epoch))
    epoch = 0
    while len(steps) < wanted:
        # a string seeds by its bytes, the same on every platform
        source = random.Random(f"batches-{seed}-{epoch}")
        rows = list(range(len(lengths)))
        source.shuffle(rows)
        batches: list[list[int]] = []
        for start in range(0, len(rows), _POOL * batch_size):
            pool = sorted(rows[start : start + _POOL * batch_size], key=lambda row: lengths[row])
            batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        source.shuffle(batches)
        steps += batches
        epoch += 1
    return steps[:wanted]


def micro_batches(rows: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Cut one step's examples into parts of at most `tokens` padded tokens (one example at
    least), similar lengths together."""
    parts: list[list[int]] = []
    for row in sorted(rows, key=lambda row: (lengths[row], row)):
        # rows come in ascending length, so this row is the widest of its part
        if parts and (len(parts[-1]) + 1) * lengths[row] <= tokens:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts
