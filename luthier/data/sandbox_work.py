"""How much work one rendering of a template may do: counted, not timed, so equal everywhere.

What is counted is characters that are read or made, and items of lists, which count for more
because they take more memory. The count is of one rendering in one thread.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import TemplateRuntimeError

#: Characters that one rendering may read and make on the way; it takes about a second.
WORK = 50_000_000
#: What an item of a list counts for.
ITEM = 16
#: Items that a list or object made in a template may have, those inside it counted each time.
MOST_ITEMS = 100_000
_HOLDERS = (list, tuple, set, dict)
_SIZED = (*_HOLDERS, str, bytes)

_LEFT: ContextVar[list[int] | None] = ContextVar("work left", default=None)


def begin() -> None:
    """A rendering, or the compiling of a template, begins."""
    _LEFT.set([WORK])


def pay(amount: int) -> None:
    """Count some work.

    Raises:
        TemplateRuntimeError: it was too much.
    """
    left = _LEFT.get()
    if left is None:
        begin()
        left = _LEFT.get() or [WORK]
    left[0] -= amount
    if left[0] < 0:
        raise TemplateRuntimeError(
            f"it reads and makes more than {WORK:,} characters on the way, which is too much work"
        )


def pay_for(value: Any) -> Any:
    """Count a value by its length, what is in it left out; the value."""
    if isinstance(value, str | bytes):
        pay(len(value))
    elif isinstance(value, list | tuple | set | dict | range):
        pay(ITEM * len(value))
    return value


def pay_for_all(value: Any) -> Any:
    """Count a value with all that is in it; the value."""
    if isinstance(value, _HOLDERS):
        stack: list[Any] = [value]
        while stack:
            pay_for(held := stack.pop())
            inside = held.values() if isinstance(held, dict) else held
            if not isinstance(held, str | bytes):
                stack += [item for item in inside if isinstance(item, _SIZED)]
    else:
        pay_for(value)
    return value


def check_items(value: Any) -> Any:
    """Refuse a value that holds itself many times over: [a, a] of [b, b] of ...; else the value.

    Such a value is small in memory, and to compare or print it takes for ever.

    Raises:
        TemplateRuntimeError: over `MOST_ITEMS`.
    """
    count = 0
    stack: list[Any] = [value]
    while stack:
        held = stack.pop()
        inside = held.values() if isinstance(held, dict) else held
        if isinstance(held, _HOLDERS):
            count += len(inside)
            if count > MOST_ITEMS:
                raise TemplateRuntimeError(f"a list grew over {MOST_ITEMS:,} items")
            stack += [item for item in inside if isinstance(item, _HOLDERS)]
    return value
