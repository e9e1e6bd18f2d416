"""What a program that reads a stranger's file may take."""

from __future__ import annotations


def bounded(memory: int, seconds: int) -> None:
    """Bound this process, from now on.

    Args:
        memory: bytes of address space; more is a MemoryError.
        seconds: of computing; then the system ends it.

    It may write into no file and start no process, either. Does nothing where the system knows no
    such limits.
    """
    try:
        import resource
    except ImportError:  # not on every system
        return
    for what, least, most in (
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_NPROC, 0, 0),
    ):
        resource.setrlimit(what, (least, most))
