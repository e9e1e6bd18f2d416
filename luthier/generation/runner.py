"""A model and its key-value caches: prompts are read here, shared beginnings once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from luthier.errors import InputError, ModelError
from luthier.generation.cache import RoomyCache
from luthier.generation.shared_prefix import agrees, attending
from luthier.models.heads import body, keeps_state, virtual_tokens

#: Shorter beginnings are not worth a pass of their own.
_SHORTEST_PREFIX = 8
#: Shorter ones are copied into the cache of every row.
_SHORTEST_SHARED = 64
#: Tokens after a shared beginning that are read at once, padding counted.
_READ_TOGETHER = 1024
#: Caches of beginnings that are held at once.
_PREFIXES_KEPT = 4


@dataclass(frozen=True)
class Prefix:
    """Tokens that rows start with, and their cache (None for no tokens).

    Attributes:
        shared: whether rows attend to the one cache (`shared_prefix.py`) instead of to copies.
    """

    length: int
    cache: RoomyCache | None
    shared: bool = False

    @property
    def copied(self) -> int:
        """Tokens of it that the cache of every row holds."""
        return 0 if self.shared else self.length


@dataclass
class ReadRows:
    """Rows that have been read.

    Attributes:
        cache: keys and values of all rows.
        hidden: last hidden states, (rows, 1, hidden).
        mask: 1 for real tokens in the cache, (rows, tokens).
        positions: the next position of each row, (rows,).
        prefix: what they start with.
    """

    cache: RoomyCache
    hidden: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    prefix: Prefix

    def keep(self, rows: torch.Tensor) -> None:
        """Forget all rows but these."""
        self.cache.keep_rows(rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]


class Runner:
    """Reads prompts with one causal model.

    Args:
        model: a Hugging Face causal LM in evaluation mode.

    Raises:
        ModelError: the model keeps something other than keys and values between tokens.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        config = model.config.get_text_config()
        if keeps_state(model):
            raise ModelError(
                f"Models of type {config.model_type} keep a recurrent state, which generation "
                "here cannot.",
                fix="Choose a transformer that keeps keys and values, such as Llama or Qwen.",
            )
        self.layers = int(config.num_hidden_layers)
        #: positions that a soft prefix takes in every cache; prompts, masks and positions are
        #: given as if it were not there (models/soft_prefix.py)
        self.virtual = virtual_tokens(model)
        windows = [getattr(config, key, None) for key in ("sliding_window", "attention_chunk_size")]
        #: tokens a layer looks back at most; None when all see everything
        self.window = min((int(w) for w in windows if w), default=None)
        # the newest last; several, because a server asks one model by several prompts
        self._prefixes: dict[tuple[int, ...], RoomyCache] = {}

    def shared_prefix(self, prompts: Sequence[Sequence[int]], new: int) -> Prefix:
        """The tokens that all prompts start with, computed (or found computed before).

        Args:
            prompts: token ids.
            new: tokens that will follow a prompt at most.

        Raises:
            InputError: a prompt is empty.
        """
        if not all(len(prompt) for prompt in prompts):
            raise InputError("A prompt has no tokens.", fix="Give the model something to read.")
        if len(prompts) == 1:
            return self.prefix_in_use(prompts[0])
        longest = max((len(prompt) for prompt in prompts), default=0)
        if self.beyond_window(longest + new):
            # padding lies between the prefix and the rest, and a window counts padding too
            return Prefix(0, None)
        length = _common(prompts)
        if length < _SHORTEST_PREFIX:
            return Prefix(0, None)
        ids = tuple(prompts[0][:length])
        cache = self._prefixes.pop(ids, None)
        if cache is None:
            cache = RoomyCache(self.layers, 1, self.virtual + length)
            body(self.model)(
                input_ids=torch.tensor([ids], device=self.device),
                past_key_values=cache,
                use_cache=True,
            )
        self._prefixes[ids] = cache
        while len(self._prefixes) > _PREFIXES_KEPT:
            del self._prefixes[next(iter(self._prefixes))]
        return Prefix(length, cache, length >= _SHORTEST_SHARED and self.shares)

    @cached_property
    def shares(self) -> bool:
        """Whether rows can attend to one copy of what they start with."""
        # windows and soft prefixes count places in a row's own cache
        return self.window is None and not self.virtual and agrees(self.model)

    def run(self, prefix: Prefix, **inputs: Any) -> torch.Tensor:
        """Last hidden states (rows, tokens, hidden) of rows that start with `prefix`."""
        cache = prefix.cache if prefix.shared else None
        with attending(self.model, cache) if cache is not None else contextlib.nullcontext():
            found: torch.Tensor = body(self.model)(**inputs, use_cache=True).last_hidden_state
        return found

    def beyond_window(self, tokens: int) -> bool:
        """Whether the last of these tokens would not see the first, or the soft prefix."""
        return self.window is not None and self.virtual + tokens > self.window

    def prefix_in_use(self, prompt: Sequence[int]) -> Prefix:
        """The longest prefix computed earlier that this prompt starts with too."""
        start = tuple(prompt)
        fitting = [
            ids for ids in self._prefixes if len(start) > len(ids) and start[: len(ids)] == ids
        ]
        if not fitting:
            return Prefix(0, None)
        longest = max(fitting, key=len)
        return Prefix(len(longest), self._prefixes[longest])

    def read(self, suffixes: Sequence[Sequence[int]], prefix: Prefix, room: int) -> ReadRows:
        """Run what follows the prefix of each row, padded on the left.

        Args:
            suffixes: token ids, one at least in each.
            prefix: what comes before all of them.
            room: tokens that will be appended at most.
        """
        if not prefix.shared:
            return self._read_together(suffixes, prefix, room)
        # rows that share one copy of their beginning are many, and their own parts differ in
        # length by more than they are long: read in parts of similar length, without much padding
        lengths = [len(suffix) for suffix in suffixes]
        groups = list(batches(lengths, 0, tokens=_READ_TOGETHER, rows=len(lengths)))
        if len(groups) == 1:
            return self._read_together(suffixes, prefix, room)
        parts = [
            (some, self._read_together([suffixes[row] for row in some], prefix, 0))
            for some in groups
        ]
        return self._joined(parts, max(lengths), prefix, room)

    def _joined(
        self,
        parts: Sequence[tuple[list[int], ReadRows]],
        width: int,
        prefix: Prefix,
        room: int,
    ) -> ReadRows:
        """Rows that were read in parts, as if they had been read together.

        Args:
            parts: the places of rows, and what was read of them.
            width: tokens of the longest, its prefix not counted.
            prefix: what comes before all of them.
            room: tokens that will be appended at most.
        """
        count = sum(len(some) for some, _ in parts)
        cache = RoomyCache(self.layers, count, width + room, prefix.cache, shared=True)
        _, first = parts[0]
        hidden = first.hidden.new_empty(count, *first.hidden.shape[1:])
        mask = first.mask.new_zeros(count, prefix.length + width)
        mask[:, : prefix.length] = 1
        positions = first.positions.new_empty(count)
        for some, read in parts:
            places = torch.tensor(some, device=self.device)
            hidden[places], positions[places] = read.hidden, read.positions
            own = read.mask[:, prefix.length :]
            mask[places, mask.shape[1] - own.shape[1] :] = own
            for layer, part in zip(cache.layers, read.cache.layers, strict=True):
                layer.take(places, part, width)
        return ReadRows(cache, hidden, mask, positions, prefix)

    def _read_together(
        self, suffixes: Sequence[Sequence[int]], prefix: Prefix, room: int
    ) -> ReadRows:
        rows, width = len(suffixes), max(len(s) for s in suffixes)
        ids = torch.zeros(rows, width, dtype=torch.long)
        mask = torch.ones(rows, prefix.length + width, dtype=torch.long)
        for row, suffix in enumerate(suffixes):
            pad = width - len(suffix)
            ids[row, pad:] = torch.tensor(list(suffix))
            mask[row, prefix.length : prefix.length + pad] = 0
        padded = bool((mask == 0).any())
        ids, mask = ids.to(self.device), mask.to(self.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, prefix.length :]
        held = self.virtual + prefix.copied + width + room
        cache = RoomyCache(self.layers, rows, held, prefix.cache, shared=prefix.shared)
        hidden = self.run(
            prefix,
            input_ids=ids,
            # without padding no mask is needed, and the faster causal kernel serves
            attention_mask=mask if padded else None,
            position_ids=positions,
            past_key_values=cache,
        )[:, -1:]
        return ReadRows(cache, hidden, mask, positions[:, -1] + 1, prefix)

    def append(self, rows: ReadRows, tokens: torch.Tensor) -> None:
        """Read one more token (rows,) of each row."""
        rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(tokens), 1)], dim=1)
        rows.hidden = self.run(
            rows.prefix,
            input_ids=tokens.to(self.device)[:, None],
            attention_mask=rows.mask,
            position_ids=rows.positions[:, None],
            past_key_values=rows.cache,
        )
        rows.positions = rows.positions + 1


def batches(lengths: Sequence[int], new: int, *, tokens: int, rows: int) -> Iterator[list[int]]:
    """Indices of rows of similar length together, longest first so that too much shows at once.

    Args:
        lengths: tokens of each prompt.
        new: tokens that follow at most.
        tokens: how many a batch may hold, padding counted (a single row may exceed it).
        rows: how many rows a batch may hold.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    batch: list[int] = []
    for row in order:
        longest = lengths[batch[0]] if batch else lengths[row]
        if batch and ((len(batch) + 1) * (longest + new) > tokens or len(batch) >= rows):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts start with, leaving one at least of each."""
    if not prompts:
        return 0
    # what the first and the last in lexical order share, all share
    low, high = min(map(tuple, prompts)), max(map(tuple, prompts))
    limit = min(len(p) for p in prompts) - 1
    length = 0
    while length < limit and low[length] == high[length]:
        length += 1
    return length
