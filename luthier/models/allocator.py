"""What the C library does with memory that was freed.

glibc asks the system anew for every block above 32 MB and gives the top of its heap back as soon as
64 MB of it are free. A step of training or a batch of scoring frees and asks for a gigabyte; each
page of it (4 kB) then costs a fault of about a microsecond, 5 to 8 % of a training step on a
virtual machine. So pages are kept between steps, and given back when a model is let go.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import sys
from collections.abc import Iterator

#: Of mallopt(3): blocks up to so many bytes come from the heap; that much free memory stays at its
#: top; it grows by that much.
_MAPPED_FROM = -3
_SETTINGS = {_MAPPED_FROM: 1 << 30, -1: (1 << 31) - 1, -2: 1 << 26}
#: What is to stay is mapped by itself from so many bytes on.
_LASTING = 1 << 18


@functools.cache
def keep_pages() -> bool:
    """Have freed memory kept for the next step; whether the C library does so."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    taken = [mallopt(name, value) for name, value in _SETTINGS.items()]
    return all(taken)


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Inside, blocks are made that outlast what comes and goes: they are kept out of the heap,
    where they would leave holes too small for what is asked for next."""
    if not keep_pages():
        yield
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MAPPED_FROM, _LASTING)
    try:
        yield
    finally:
        mallopt(_MAPPED_FROM, _SETTINGS[_MAPPED_FROM])


def give_back_memory() -> None:
    """Collect what nobody holds, and return it to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
