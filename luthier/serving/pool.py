"""The models of one server: named, loaded when first asked for, each behind its own queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from luthier.errors import InputError, did_you_mean
from luthier.serving.api_errors import ApiError
from luthier.serving.batcher import Batcher, ClosedError
from luthier.serving.servable import Servable

#: The default model answers to this name too, so that a client needs no name of a run.
ALIAS = "luthier"


class ModelPool:
    """Models by name.

    Args:
        loaders: what loads each model; called at most once unless it raises.
        default: the name among them that `ALIAS` stands for.

    Raises:
        InputError: there are no models, or the default is not among them.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], Servable]], default: str) -> None:
        if not loaders:
            raise InputError("There is no model to serve.")
        if default not in loaders:
            raise InputError(
                f"The default model {default!r} is not among those to serve.",
                fix=did_you_mean(default, loaders),
            )
        self.default = default
        self.names = [default, *(name for name in loaders if name != default)]
        self._loaders = dict(loaders)
        self._batchers: dict[str, Batcher] = {}
        # one lock for all: two models loading at once would double the peak memory
        self._loading = threading.Lock()
        self._closed = False

    def known(self, name: str) -> str:
        """The model that a client means by `name`.

        Raises:
            ApiError: 404, naming the models there are.
        """
        if name in self._loaders:
            return name
        if name == ALIAS:
            return self.default
        shown = name[:100].encode(errors="replace").decode()
        raise ApiError(
            404,
            f"The model {shown!r} does not exist. Models: {', '.join(self.names)}.",
            code="model_not_found",
            param="model",
        )

    def loaded(self, name: str) -> Batcher | None:
        """The model's queue, or None when it has not been loaded yet."""
        return self._batchers.get(name)

    def load(self, name: str) -> Batcher:
        """The model's queue; loads the model if needed, which may take long.

        A load that fails is tried again the next time.

        Raises:
            LuthierError: whatever the loader found; ClosedError after `close`.
        """
        with self._loading:
            if self._closed:
                raise ClosedError("The server is shutting down.")
            if name not in self._batchers:
                self._batchers[name] = Batcher(self._loaders[name]())
            if self._closed:  # while it was loading
                self._batchers[name].close()
            return self._batchers[name]

    def close(self) -> None:
        """Stop all queues. Nothing is loaded afterwards."""
        # not under the lock: a load in progress must not hold up the shutdown
        self._closed = True
        for batcher in list(self._batchers.values()):
            batcher.close()
