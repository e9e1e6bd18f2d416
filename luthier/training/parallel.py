"""Several processes train one model: each computes its share of every step's rows.

Gradients are sums until they are divided by the trained tokens of the whole step, so it does not
matter which process computed which row: two processes come to the weights of one, up to the order
of float32 additions (averaging the means of the processes, as DistributedDataParallel does by
default, would not). Started by torchrun, or by anything that sets RANK and WORLD_SIZE.

This module imports without torch, so that the command line can ask for the rank.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.errors import RunError

if TYPE_CHECKING:
    import torch

#: float32 values that are summed over the processes at once (64 MiB).
_BUCKET = 1 << 24


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is. All methods are collective: every process must call
    them, in the same order. With one process they do nothing."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that reports and writes."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Each value summed over the processes, in float64."""
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def sum_gradients(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes.

        A parameter that no process has a gradient for keeps none: an optimiser leaves it alone.
        """
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        have = torch.tensor([int(p.grad is not None) for p in parameters.values()])
        dist.all_reduce(have, op=dist.ReduceOp.MAX)
        held: list[torch.Tensor] = []
        for parameter, any_has in zip(parameters.values(), have.tolist(), strict=True):
            if any_has:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                held.append(parameter.grad)
        for bucket in _buckets(held):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            start = 0
            for gradient in bucket:
                gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
                start += gradient.numel()

    def from_main(self, value: Any) -> Any:
        """The main process's value, everywhere. Only for small things: it is pickled."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def tensors_from_main(self, tensors: Mapping[str, torch.Tensor] | None) -> Any:
        """The main process's tensors by name, everywhere; None where it has none."""
        if self.size == 1:
            return tensors
        import torch
        import torch.distributed as dist

        shapes = self.from_main(
            {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
            if self.main and tensors is not None
            else None
        )
        if shapes is None:
            return None
        out: dict[str, torch.Tensor] = {}
        for name, (shape, dtype) in shapes.items():
            held = (
                tensors[name].detach().cpu().contiguous()
                if self.main and tensors is not None
                else torch.empty(shape, dtype=dtype)
            )
            dist.broadcast(held, src=0)
            out[name] = held
        return out

    def gather(self, value: Any) -> list[Any]:
        """Every process's value in order, for the main process; an empty list for the others."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        box: list[Any] | None = [None] * self.size if self.main else None
        dist.gather_object(value, box, dst=0)
        return box or []


def share(rows: Sequence[int], sizes: Sequence[int], ranks: Ranks) -> list[int]:
    """The rows of a step that one process computes: dealt out by size, the longest first and each
    round in the other direction, so that all have about as much to do."""
    if ranks.size == 1:
        return list(rows)
    longest = sorted(rows, key=lambda row: (-sizes[row], row))
    mine = []
    for start in range(0, len(longest), ranks.size):
        deal = longest[start : start + ranks.size]
        place = ranks.rank if start // ranks.size % 2 == 0 else ranks.size - 1 - ranks.rank
        if place < len(deal):
            mine.append(deal[place])
    return mine


def environment() -> Ranks:
    """What RANK and WORLD_SIZE say; one process when they are not set.

    Raises:
        RunError: they are set and make no sense.
    """
    given = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    try:
        rank, size = int(given[0]), int(given[1])
    except ValueError:
        rank, size = -1, 0
    if not 0 <= rank < size:
        raise RunError(
            f"RANK is {given[0]!r} and WORLD_SIZE is {given[1]!r}: that is no place in a group.",
            fix="Start the processes with torchrun, or unset both variables.",
        )
    return Ranks(rank, size)


def current() -> Ranks:
    """This process's place in the group it has joined; alone when it has joined none."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """Join the group that the environment describes, and leave it at the end.

    Gloo on CPUs, NCCL between GPUs (each process takes the one that LOCAL_RANK names).

    Raises:
        RunError: the other processes cannot be reached.
    """
    wanted = environment()
    if wanted.size == 1:
        yield wanted
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        yield current()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", wanted.rank)))
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, rank=wanted.rank, world_size=wanted.size)
    except Exception as error:  # whatever sockets and stores make of a wrong address
        raise RunError(
            f"Process {wanted.rank} of {wanted.size} cannot join the others: {error}",
            fix="Start all of them with torchrun, which sets MASTER_ADDR and MASTER_PORT too.",
        ) from error
    try:
        yield current()
    finally:
        dist.destroy_process_group()


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    held = 0
    for tensor in tensors:
        if bucket and held + tensor.numel() > _BUCKET:
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.numel()
    if bucket:
        yield bucket
