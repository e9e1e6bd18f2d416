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

#: Of mallopt(3): blocks up to so many bytes come from the heap; that much free memory stays at its
#: top; it grows by that much.
_SETTINGS = {-3: 1 << 30, -1: (1 << 31) - 1, -2: 1 << 26}


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


def give_back_memory() -> None:
    """Collect what nobody holds, and return it to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
