"""Scoring many continuations of a prompt in one pass.

The labels of a classification continue the same prompt. Instead of one row a label, each with its
own copy of the prompt's cache, all of them stand behind the prompt in one row, and the attention
mask lets each see the prompt and itself alone: a tree with the prompt as its trunk. Positions start
anew for each branch, so the numbers are those of separate rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from luthier.generation.cache import RoomyCache
from luthier.generation.runner import Prefix, Runner
from luthier.models.heads import logits

Choices = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Tree:
    """The inputs of one batch; s = tokens of the largest row, p = prefix length.

    Attributes:
        ids: (rows, s); each row is its trunk, then its branches, then padding.
        positions: (rows, s).
        branch: (rows, s), which branch a token belongs to: -1 for the trunk, -2 for padding.
        trunks: for each row, how many tokens its trunk has.
        starts: for each row the column at which each branch begins.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    branch: torch.Tensor
    trunks: list[int]
    starts: list[list[int]]


def branch_tokens(choices: Choices) -> int:
    """How many tokens the branches of one row have: a choice's last token is never read."""
    return sum(max(0, len(choice) - 1) for choice in choices)


def plant(trunks: Sequence[Sequence[int]], choices: Sequence[Choices], prefix: int) -> Tree:
    """Lay out rows of trunk and branches behind a cached prefix of `prefix` tokens.

    Sliding windows are not heeded: whoever calls must see to it that all tokens fit into one.
    """
    width = max(len(trunk) + branch_tokens(row) for trunk, row in zip(trunks, choices, strict=True))
    ids = torch.zeros(len(trunks), width, dtype=torch.long)
    positions = torch.zeros(len(trunks), width, dtype=torch.long)
    branch = torch.full((len(trunks), width), -2)
    starts: list[list[int]] = []
    for row, (trunk, own) in enumerate(zip(trunks, choices, strict=True)):
        column, after = len(trunk), prefix + len(trunk)
        ids[row, :column] = torch.tensor(list(trunk))
        positions[row, :column] = torch.arange(prefix, after)
        branch[row, :column] = -1
        begun = []
        for number, choice in enumerate(own):
            end = column + max(0, len(choice) - 1)
            ids[row, column:end] = torch.tensor(list(choice[:-1]), dtype=torch.long)
            positions[row, column:end] = torch.arange(after, after + end - column)
            branch[row, column:end] = number
            begun.append(column)
            column = end
        starts.append(begun)
    return Tree(ids, positions, branch, [len(trunk) for trunk in trunks], starts)


def visible(tree: Tree, prefix: int) -> torch.Tensor:
    """Who may look at whom, (rows, s, p + s) of bool.

    A token sees the prefix, earlier tokens of the trunk, and earlier tokens of its own branch.
    Padding sees itself alone, because a softmax over nothing would be NaN.
    """
    rows, width = tree.ids.shape
    order = torch.arange(width)
    earlier = order[None, :, None] >= order[None, None, :]
    asks, asked = tree.branch[:, :, None], tree.branch[:, None, :]
    own = earlier & (asks != -2) & ((asked == -1) | ((asked == asks) & (asked >= 0)))
    seen = torch.cat([(asks != -2).expand(rows, width, prefix), own], dim=2)
    seen[:, order, prefix + order] |= tree.branch == -2
    return seen


def score_tree(
    runner: Runner,
    trunks: Sequence[Sequence[int]],
    choices: Sequence[Choices],
    prefix: Prefix,
) -> list[list[float]]:
    """Log-likelihoods of each row's choices after its trunk.

    Args:
        runner: the model.
        trunks: the prompts without their shared prefix, at least one token each.
        choices: for each row, its continuations; one without tokens is certain.
        prefix: what comes before all of them.

    Returns:
        [row][choice], natural log, summed over the choice's tokens.
    """
    model, device = runner.model, runner.device
    tree = plant(trunks, choices, prefix.length)
    rows, width = tree.ids.shape
    held = runner.virtual + prefix.copied + width
    cache = RoomyCache(runner.layers, rows, held, prefix.cache, shared=prefix.shared)
    seen = visible(tree, prefix.length)[:, None].to(device)
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=device)
    mask.masked_fill_(~seen, torch.finfo(model.dtype).min)
    hidden = runner.run(
        prefix,
        input_ids=tree.ids.to(device),
        attention_mask=mask,
        position_ids=tree.positions.to(device),
        past_key_values=cache,
    )
    # what is predicted where: a choice's first token at the end of the trunk, the others on it
    wanted = [
        (row, tree.trunks[row] - 1 if place == 0 else start + place - 1, token, number)
        for row, own in enumerate(choices)
        for number, (choice, start) in enumerate(zip(own, tree.starts[row], strict=True))
        for place, token in enumerate(choice)
    ]
    places = sorted({(row, column) for row, column, _, _ in wanted})
    where = {place: index for index, place in enumerate(places)}
    at = torch.tensor(places, device=device)
    scores = [[0.0] * len(own) for own in choices]
    norms: list[torch.Tensor] = []
    goals: list[torch.Tensor] = []
    rows_of = torch.tensor([where[row, column] for row, column, _, _ in wanted])
    tokens = torch.tensor([token for _, _, token, _ in wanted])
    for start in range(0, len(places), 512):
        part = at[start : start + 512]
        found = torch.log_softmax(logits(model, hidden[part[:, 0], part[:, 1]]), dim=-1).cpu()
        inside = (rows_of >= start) & (rows_of < start + len(part))
        goals.append(inside.nonzero()[:, 0])
        norms.append(found[rows_of[inside] - start, tokens[inside]].double())
    for index, value in zip(torch.cat(goals).tolist(), torch.cat(norms).tolist(), strict=True):
        row, _, _, number = wanted[index]
        scores[row][number] += value
    return scores
