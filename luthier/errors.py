"""What Luthier says when it cannot go on.

Every error a user can cause is a `LuthierError`: one line that names the file, the row or the
key, and (in `fix`) what to do about it. The command line prints it and exits with code 2; nothing
a user does should end in a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LuthierError(Exception):
    """A mistake or a circumstance the user can mend.

    Args:
        message: what is wrong, naming the file and the row or key.
        fix: what to do about it, as an instruction. May be empty when the message says it.
    """

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} {self.fix}".strip()


class InputError(LuthierError):
    """A file, a row or a key that cannot be used as it is."""


class ModelError(LuthierError):
    """A model that cannot be found, fetched, verified or loaded."""


class RunError(LuthierError):
    """A run folder that cannot be written, continued or read."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The member of `known` that a typing mistake would turn into `word`, or None."""
    names = list(known)
    folded = {name.lower().replace("-", "_"): name for name in names}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence: the nearest name, or the list of all names when none is near."""
    names = sorted(known)
    near = nearest(word, names)
    return f"Did you mean {near!r}?" if near else f"Known: {', '.join(names)}."
