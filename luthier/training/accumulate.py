"""Sums over micro-batches and processes, in the memory there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from luthier.training import memory, parallel
from luthier.training.batches import micro_batches
from luthier.training.training_error import TrainingError


class Accumulator:
    """Adds up what a function gives for the micro-batches of a step.

    Where one of the processes runs out of memory, all of them forget the step's gradients and begin
    it again with micro-batches of half the size, down to one row each. A step's result is a sum, so
    its size in memory is all that changes.

    Args:
        ranks: this process's place among those that train together.
        micro_tokens: padded tokens computed at once, to begin with.
        discard: forgets the gradients collected so far.
        notice: told of every halving.

    Attributes:
        micro_tokens: as it is now.
        notes: the sentences `notice` was told.
    """

    def __init__(
        self,
        ranks: parallel.Ranks,
        micro_tokens: int,
        *,
        discard: Callable[[], None],
        notice: Callable[[str], None],
    ) -> None:
        self.ranks = ranks
        self.micro_tokens = micro_tokens
        self.notes: list[str] = []
        self._discard = discard
        self._notice = notice

    def summed(
        self,
        rows: Sequence[int],
        sizes: Sequence[int],
        compute: Callable[[list[int]], float],
        *,
        where: str,
    ) -> float:
        """The sum of `compute` over the micro-batches of all processes.

        Args:
            rows: what is to be computed, as indices.
            sizes: tokens of each index.
            compute: gives the summed loss of some rows; may leave gradients behind.
            where: "at step 3 of 10", for what is said.

        Raises:
            TrainingError: there is no memory for one row at a time.
        """
        random = random_state()
        while True:
            total, failed = 0.0, 0.0
            try:
                mine = parallel.share(rows, sizes, self.ranks)
                for part in micro_batches(mine, sizes, self.micro_tokens):
                    total += compute(part)
            except (MemoryError, RuntimeError) as error:
                if not memory.ran_out(error):
                    raise
                failed = 1.0
            total, failed = self.ranks.total(total, failed)
            if not failed:
                return total
            self._discard()
            memory.free()
            set_random_state(random)
            self._halve(rows, sizes, where)

    def _halve(self, rows: Sequence[int], sizes: Sequence[int], where: str) -> None:
        widest = 0
        for rank in range(self.ranks.size):
            mine = parallel.share(rows, sizes, parallel.Ranks(rank, self.ranks.size))
            for part in micro_batches(mine, sizes, self.micro_tokens):
                if len(part) > 1:
                    widest = max(widest, len(part) * max(sizes[row] for row in part))
        if not widest:
            raise TrainingError(
                f"Memory ran out {where}, although only one example is computed at a time (the "
                f"longest of them has {max(sizes[row] for row in rows):,} tokens).",
                fix="Set training.gradient_checkpointing: true, lower training.max_tokens, or use "
                "a smaller model.",
            )
        # half of what is computed at once now; half of the setting could still be more than that
        self.micro_tokens = max(1, min(self.micro_tokens, widest) // 2)
        said = (
            f"Memory ran out {where}: micro-batches hold at most {self.micro_tokens:,} tokens from "
            "here on, which changes no result."
        )
        self.notes.append(said)
        self._notice(said)


def random_state() -> dict[str, torch.Tensor]:
    """Where the random numbers of dropout are, on the CPU and on the GPU."""
    state = {"rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["rng_cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, torch.Tensor], end: str = "") -> None:
    """The inverse of `random_state`; `end` is what its names end in."""
    torch.set_rng_state(state[f"rng{end}"])
    if f"rng_cuda{end}" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state[f"rng_cuda{end}"])
