"""Finding the pieces of a room: one file is one piece, and a new file needs no edit elsewhere.

A room that takes pieces (arms, readers, metrics, lints, objectives, ...) owns one `Registry`, and
each file in its folder decorates what it offers with `registry.register("name")`. The folder is
imported the first time somebody asks, so nothing is paid for at start-up.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from luthier.errors import InputError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Named pieces found in the modules of one package.

    Args:
        what: the singular name of a piece, for error messages ("arm", "metric").
        package: dotted name of the package whose modules are scanned.
    """

    def __init__(self, what: str, package: str) -> None:
        self._what = what
        self._package = package
        self._pieces: dict[str, T] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: offer the decorated object under `name`."""

        def add(piece: T) -> T:
            if name in self._pieces and self._pieces[name] is not piece:
                raise ValueError(f"two pieces are called {self._what} {name!r}")
            self._pieces[name] = piece
            return piece

        return add

    def _scan(self) -> None:
        if self._scanned:
            return
        package = importlib.import_module(self._package)
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
            importlib.import_module(f"{self._package}.{module.name}")
        self._scanned = True

    def names(self) -> list[str]:
        """All names, sorted."""
        self._scan()
        return sorted(self._pieces)

    def __contains__(self, name: str) -> bool:
        self._scan()
        return name in self._pieces

    def __iter__(self) -> Iterator[tuple[str, T]]:
        self._scan()
        return iter(sorted(self._pieces.items()))

    def get(self, name: str) -> T:
        """The piece called `name`.

        Raises:
            InputError: no such piece; the message suggests the nearest name.
        """
        self._scan()
        if name not in self._pieces:
            raise InputError(
                f"Unknown {self._what} {name!r}.", fix=did_you_mean(name, self._pieces)
            )
        return self._pieces[name]
