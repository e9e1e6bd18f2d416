"""Scoring many continuations of a prompt in one pass.

The labels of a classification continue the same prompt. Instead of one row a label, each with its
own copy of the prompt's cache, all of them stand behind the prompt, and the attention mask lets
each see the prompt and itself alone: a tree with the prompt as its trunk. Positions start anew for
each branch, so the numbers are those of separate rows.

Trees of any size are set side by side in lines of one width, so that hardly anything that is
computed is padding; the mask keeps them apart as well.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from luthier.generation.cache import RoomyCache
from luthier.generation.runner import Prefix, Runner
from luthier.models.heads import finished

Choices = Sequence[Sequence[int]]

#: A batch that holds so many tokens ends before a line that cannot be filled to this share: the
#: next batch has shorter ones.
_ENOUGH, _FULL = 512, 0.9
#: Places whose scores over the vocabulary exist at once, and of those how many are widened at once:
#: few enough to stay in a processor's cache.
_SCORED = 512
_WIDENED = 16


@dataclass(frozen=True)
class Tree:
    """The inputs of one batch; s = tokens of the widest line, p = prefix length.

    Attributes:
        ids: (lines, s); trees one after another, each its trunk, then its branches; then padding.
        positions: (lines, s).
        owner: (lines, s), the row whose tree a token belongs to; -1 for padding.
        branch: (lines, s), which branch of it: -1 for the trunk, -2 for padding.
        ends: for each row (line, column) of its trunk's last token.
        starts: for each row the column at which each branch begins.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    owner: torch.Tensor
    branch: torch.Tensor
    ends: list[tuple[int, int]]
    starts: list[list[int]]


def branch_tokens(choices: Choices) -> int:
    """How many tokens the branches of one row have: a choice's last token is never read."""
    return sum(max(0, len(choice) - 1) for choice in choices)


def filled_lines(sizes: Sequence[int], *, tokens: int, most: int) -> Iterator[list[list[int]]]:
    """Batches of lines of rows: each line as full as the batch's longest row, where that can be.

    The longest row left opens a line, and the longest that fit into what is left of it follow
    (first fit by decreasing size). Longest first, so that too much shows at once.

    Args:
        sizes: tokens of each row, at least 1.
        tokens: how many a batch may hold, padding counted (a single row may exceed it).
        most: lines a batch may have.
    """
    left = sorted((size, -row) for row, size in enumerate(sizes))
    while left:
        width = left[-1][0]
        lines: list[list[int]] = []
        while left and len(lines) < most and (not lines or (len(lines) + 1) * width <= tokens):
            line = _line(left, width)
            filled = sum(sizes[row] for row in line)
            if len(lines) * width >= _ENOUGH and filled < _FULL * width:
                for row in line:
                    bisect.insort(left, (sizes[row], -row))
                break
            lines.append(line)
        yield lines


def _line(left: list[tuple[int, int]], width: int) -> list[int]:
    """Take rows out of those left, (size, -row) ascending, that fill a line."""
    line: list[int] = []
    while fits := bisect.bisect_right(left, (width, 0)):
        size, row = left.pop(fits - 1)
        line.append(-row)
        width -= size
    return line


def plant(
    trunks: Sequence[Sequence[int]],
    choices: Sequence[Choices],
    prefix: int,
    lines: Sequence[Sequence[int]],
) -> Tree:
    """Lay out trees of trunk and branches behind a cached prefix of `prefix` tokens.

    Sliding windows are not heeded: whoever calls must see to it that all tokens fit into one.

    Args:
        trunks: of each row, at least one token.
        choices: of each row.
        prefix: tokens before all of them.
        lines: the rows that stand side by side; each row is in one line.
    """
    sizes = [len(trunk) + branch_tokens(own) for trunk, own in zip(trunks, choices, strict=True)]
    width = max(sum(sizes[row] for row in line) for line in lines)
    ids = torch.zeros(len(lines), width, dtype=torch.long)
    positions = torch.zeros_like(ids)
    owner, branch = torch.full_like(ids, -1), torch.full_like(ids, -2)
    ends = [(0, 0)] * len(trunks)
    starts: list[list[int]] = [[] for _ in trunks]
    for at, line in enumerate(lines):
        column = 0
        for row in line:
            trunk = trunks[row]
            owner[at, column : column + sizes[row]] = row
            stop, after = column + len(trunk), prefix + len(trunk)
            ids[at, column:stop] = torch.tensor(list(trunk))
            positions[at, column:stop] = torch.arange(prefix, after)
            branch[at, column:stop] = -1
            ends[row] = (at, stop - 1)
            column = stop
            for number, choice in enumerate(choices[row]):
                stop = column + max(0, len(choice) - 1)
                ids[at, column:stop] = torch.tensor(list(choice[:-1]), dtype=torch.long)
                positions[at, column:stop] = torch.arange(after, after + stop - column)
                branch[at, column:stop] = number
                starts[row].append(column)
                column = stop
    return Tree(ids, positions, owner, branch, ends, starts)


def visible(tree: Tree, prefix: int) -> torch.Tensor:
    """Who may look at whom, (lines, s, p + s) of bool.

    A token sees the prefix, earlier tokens of its tree's trunk, and earlier tokens of its own
    branch. Padding sees itself alone, because a softmax over nothing would be NaN.
    """
    lines, width = tree.ids.shape
    order = torch.arange(width)
    earlier = order[None, :, None] >= order[None, None, :]
    asks, asked = tree.branch[:, :, None], tree.branch[:, None, :]
    same = tree.owner[:, :, None] == tree.owner[:, None, :]
    own = earlier & same & (asks != -2) & ((asked == -1) | ((asked == asks) & (asked >= 0)))
    seen = torch.cat([(asks != -2).expand(lines, width, prefix), own], dim=2)
    seen[:, order, prefix + order] |= tree.branch == -2
    return seen


def score_tree(
    runner: Runner,
    trunks: Sequence[Sequence[int]],
    choices: Sequence[Choices],
    prefix: Prefix,
    lines: Sequence[Sequence[int]],
) -> list[list[float]]:
    """Log-likelihoods of each row's choices after its trunk.

    Args:
        runner: the model.
        trunks: the prompts without their shared prefix, at least one token each.
        choices: for each row, its continuations; one without tokens is certain.
        prefix: what comes before all of them.
        lines: the rows that are computed side by side; each row is in one line.

    Returns:
        [row][choice], natural log, summed over the choice's tokens.
    """
    model, device = runner.model, runner.device
    tree = plant(trunks, choices, prefix.length, lines)
    count, width = tree.ids.shape
    held = runner.virtual + prefix.copied + width
    cache = RoomyCache(runner.layers, count, held, prefix.cache, shared=prefix.shared)
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
    wanted: list[tuple[tuple[int, int], int, int, int]] = []
    for row, own in enumerate(choices):
        line, end = tree.ends[row]
        for number, (choice, start) in enumerate(zip(own, tree.starts[row], strict=True)):
            columns = [end, *range(start, start + len(choice) - 1)]
            wanted += [
                ((line, column), token, row, number)
                for column, token in zip(columns, choice, strict=False)
            ]
    places = sorted({place for place, _, _, _ in wanted})
    where = {place: index for index, place in enumerate(places)}
    at = torch.tensor(places, device=device)
    wanted.sort(key=lambda one: where[one[0]])
    asked = torch.tensor([where[place] for place, _, _, _ in wanted], device=device)
    tokens = torch.tensor([token for _, token, _, _ in wanted], device=device)
    found: list[torch.Tensor] = []
    at_once = _WIDENED if device.type == "cpu" else _SCORED
    for first in range(0, len(places), _SCORED):
        part = at[first : first + _SCORED]
        narrow = model.get_output_embeddings()(hidden[part[:, 0], part[:, 1]])
        for start in range(0, len(part), at_once):
            scores = finished(model, narrow[start : start + at_once])
            begin, end = torch.searchsorted(
                asked, torch.tensor([first + start, first + start + len(scores)], device=device)
            ).tolist()
            rows = asked[begin:end] - (first + start)
            norm = torch.logsumexp(scores, dim=-1)
            found.append((scores[rows, tokens[begin:end]] - norm[rows]).double().cpu())
    totals = [[0.0] * len(own) for own in choices]
    for (_, _, row, number), value in zip(wanted, torch.cat(found).tolist(), strict=True):
        totals[row][number] += value
    return totals
