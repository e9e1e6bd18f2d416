"""A key-value cache with room to grow, and a prefix that is computed once.

transformers' DynamicCache concatenates at every step, which copies the whole cache for every token
written. Here each layer is allocated once for the longest answer, and a prefix shared by all rows
(instruction and examples) is copied in instead of being computed again.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, (batch, heads, capacity, head_dim), filled from the left.

    With `shared` the prefix is counted and not copied: keys and values are those of the rows' own
    tokens, and attention finds the prefix elsewhere (`shared_prefix.py`).
    """

    def __init__(
        self, rows: int, capacity: int, prefix: DynamicLayer | None, shared: bool = False
    ) -> None:
        super().__init__()
        self._rows = rows
        self._capacity = capacity
        self._all_keys: torch.Tensor
        self._all_values: torch.Tensor
        self._before = int(prefix.keys.shape[-2]) if shared and prefix is not None else 0
        self._prefix = None if shared else prefix
        self._length = 0 if self._prefix is None else int(self._prefix.keys.shape[-2])

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate, and copy the prefix in, when the first keys show shape and type."""
        self.dtype, self.device = key_states.dtype, key_states.device
        prefix = self._prefix
        self._all_keys = self._room(key_states, None if prefix is None else prefix.keys)
        self._all_values = self._room(value_states, None if prefix is None else prefix.values)
        self.is_initialized = True
        self._show()

    def _room(self, states: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
        room = states.new_empty(self._rows, states.shape[1], self._capacity, states.shape[3])
        if prefix is not None:
            room[:, :, : self._length] = prefix
        return room

    def _show(self) -> None:
        self.keys = self._all_keys[:, :, : self._length]
        self.values = self._all_values[:, :, : self._length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (batch, heads, new, head_dim); returns everything so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._length + key_states.shape[-2]
        self._all_keys[:, :, self._length : end] = key_states
        self._all_values[:, :, self._length : end] = value_states
        self._length = end
        self._show()
        return self.keys, self.values

    def take(self, places: torch.Tensor, other: RoomyLayer, width: int) -> None:
        """Put the rows of a layer that holds fewer tokens at `places`, at the end of the first
        `width` tokens; what is before them is zeros."""
        if not self.is_initialized:
            self.lazy_initialization(other.keys, other.values)
            # what is masked is multiplied by 0 all the same, and must be a number
            self._all_keys.zero_()
            self._all_values.zero_()
            self._length = width
            self._show()
        start = width - int(other.keys.shape[2])
        self._all_keys[places, :, start:width] = other.keys
        self._all_values[places, :, start:width] = other.values

    def get_seq_length(self) -> int:
        """Tokens held so far, those of the prefix included."""
        return self._before + self._length

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Forget all rows but these (indices, or repeats, of the present ones)."""
        self._all_keys = self._all_keys.index_select(0, rows)
        self._all_values = self._all_values.index_select(0, rows)
        self._rows = int(rows.numel())
        self._show()


class RoomyCache(Cache):
    """A cache for `rows` sequences of up to `capacity` tokens that all start with `prefix`; those
    of the prefix count unless it is `shared`."""

    def __init__(
        self,
        layers: int,
        rows: int,
        capacity: int,
        prefix: RoomyCache | None = None,
        *,
        shared: bool = False,
    ) -> None:
        held = [None] * layers if prefix is None else list(prefix.layers)
        super().__init__(layers=[RoomyLayer(rows, capacity, layer, shared) for layer in held])

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Forget all rows but these."""
        for layer in self.layers:
            layer.keep_rows(rows)
