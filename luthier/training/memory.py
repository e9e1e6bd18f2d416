"""Memory that ran out, as the different allocators say it."""

from __future__ import annotations

import gc

import torch

#: CUDA and its libraries; torch's CPU allocator on Linux and macOS; the same on Windows.
_SAID = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def ran_out(error: BaseException) -> bool:
    """Whether an exception means that there was not enough memory.

    torch raises OutOfMemoryError on a GPU and a plain RuntimeError on a CPU; Python and numpy raise
    MemoryError.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _SAID)


def free() -> None:
    """Give back what a failed attempt held. Call it outside the `except` block: the exception's
    traceback holds the attempt's tensors until then."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
