"""How likely a model finds given continuations of a prompt; the prompt is read once for all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from luthier.generation.cache import RoomyCache
from luthier.generation.runner import Prefix, ReadRows, Runner
from luthier.generation.tree import branch_tokens, score_tree
from luthier.models.heads import body, logits

#: Rows of logits that exist at once.
_LOGIT_ROWS = 1024


def choices_by_row(rows: int, continuations: Sequence[Any]) -> list[list[list[int]]]:
    """The choices of every row, from one list for all rows or one list for each row."""
    shared = not any(len(item) and isinstance(item[0], list | tuple) for item in continuations)
    if shared:
        return [[list(ids) for ids in continuations]] * rows
    return [[list(ids) for ids in row] for row in continuations]


def score_batch(
    runner: Runner,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    prefix: Prefix,
    tokens: int,
    lines: Sequence[Sequence[int]],
) -> tuple[list[list[float]], float]:
    """Log-likelihoods [row][choice] of one batch, and the seconds a row took.

    Args:
        runner: the model.
        prompts: token ids; they start with the prefix.
        choices: token ids of each row's continuations.
        prefix: what was read already.
        tokens: cached tokens that may be held at once.
        lines: the rows that may be computed side by side (`tree.filled_lines`).
    """
    started = time.perf_counter()
    trunks = [prompt[prefix.length :] for prompt in prompts]
    sizes = [len(trunk) + branch_tokens(row) for trunk, row in zip(trunks, choices, strict=True)]
    widest = max(sum(sizes[row] for row in line) for line in lines)
    if not runner.beyond_window(prefix.length + widest):
        found = score_tree(runner, trunks, choices, prefix, lines)
        return found, (time.perf_counter() - started) / len(prompts)
    # a window counts what lies between, so every choice needs a row of its own
    read = runner.read(trunks, prefix, room=0)
    first = torch.log_softmax(logits(runner.model, read.hidden[:, -1]), dim=-1).cpu()
    pairs = [(row, list(ids)) for row, own_choices in enumerate(choices) for ids in own_choices]
    # nothing follows with certainty: the sum over no tokens is 0
    totals = [float(first[row, ids[0]]) if ids else 0.0 for row, ids in pairs]
    longer = [index for index, (_, ids) in enumerate(pairs) if len(ids) > 1]
    longer.sort(key=lambda index: len(pairs[index][1]))
    at_once = max(1, tokens // (read.cache.get_seq_length() + 8))
    for start in range(0, len(longer), at_once):
        chunk = longer[start : start + at_once]
        for index, value in zip(chunk, _rest(runner, read, [pairs[i] for i in chunk]), strict=True):
            totals[index] += value
    scores: list[list[float]] = [[] for _ in prompts]
    for (row, _), total in zip(pairs, totals, strict=True):
        scores[row].append(total)
    return scores, (time.perf_counter() - started) / len(prompts)


def _rest(runner: Runner, read: ReadRows, pairs: list[tuple[int, list[int]]]) -> list[float]:
    """Log-likelihood of ids[1:] given the row's cache and ids[0], for each (row, ids)."""
    device = runner.device
    longest = max(len(ids) for _, ids in pairs) - 1
    picked = torch.tensor([row for row, _ in pairs], device=device)
    # a cache for these pairs: each row's own tokens, repeated for its choices
    own = RoomyCache(runner.layers, len(pairs), read.cache.get_seq_length() + longest)
    for mine, theirs in zip(own.layers, read.cache.layers, strict=True):
        mine.update(theirs.keys.index_select(0, picked), theirs.values.index_select(0, picked))
    inputs = torch.zeros(len(pairs), longest, dtype=torch.long)
    targets = torch.zeros_like(inputs)
    counts = torch.zeros(len(pairs), longest, dtype=torch.bool)
    for place, (_, ids) in enumerate(pairs):
        inputs[place, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[place, : len(ids) - 1] = torch.tensor(ids[1:])
        counts[place, : len(ids) - 1] = True
    inputs, targets, counts = inputs.to(device), targets.to(device), counts.to(device)
    # padding is on the right here: no real token attends to what comes after it
    hidden = body(runner.model)(
        input_ids=inputs,
        attention_mask=torch.cat([read.mask[picked], torch.ones_like(inputs)], dim=1),
        position_ids=read.positions[picked][:, None] + torch.arange(longest, device=device),
        past_key_values=own,
        use_cache=True,
    ).last_hidden_state
    likelihood = torch.zeros(len(pairs), dtype=torch.float64)
    for part in counts.nonzero().split(_LOGIT_ROWS):
        rows, columns = part.unbind(1)
        found = torch.log_softmax(logits(runner.model, hidden[rows, columns]), dim=-1)
        value = found.gather(1, targets[rows, columns][:, None])[:, 0].double().cpu()
        likelihood.index_add_(0, rows.cpu(), value)
    return [float(value) for value in likelihood]
