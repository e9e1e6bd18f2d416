"""What a server offers: all arms of a run by name, or one training stage, or one model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from luthier.errors import InputError
from luthier.retrieval.places import is_index, scheme_of
from luthier.serving.servable import Servable

#: Who reads the documents of an index where no model is named.
READER = "smollm2-135m-instruct"


def offer(
    name: str, model: str | None = None, quarantine: bool = False, quote: bool = True
) -> tuple[dict[str, Callable[[], Servable]], str]:
    """Loaders by model name, and the name of the default.

    Args:
        name: a run folder (default: the recommended arm), the folder of a training stage, a
            catalogue name, a folder or a hub id; or an index, a folder or an address.
        model: who reads the documents of an index.
        quarantine: of an index: leave out passages that read like instructions to a model.
        quote: of an index: whether a sentence may stand in for the model's own words.

    Raises:
        InputError: `model`, `quarantine` or no `quote` for what is no index; an address without an
            index.
        RunError: a run without a verdict, or without an arm that finished.
        ModelError: no such model.
    """
    from luthier.arms.base import ARMS
    from luthier.jobs import open_any, recommended
    from luthier.models.loading import resolve
    from luthier.models.pool import ModelPool
    from luthier.runs import Run

    if scheme_of(name) or is_index(name):
        return _documents(name, model or READER, quarantine, quote)
    if model is not None or quarantine or not quote:
        raise InputError(
            f"--model, --quarantine and --no-quote are for an index, which {name} is not.",
            fix=f"Leave them out, or make one: luthier index build DOCUMENTS --out {name}",
        )
    folder = Path(name)
    if (folder / "manifest.json").is_file():
        run = Run.open(folder)
        default = recommended(run)
        # an upper bound is shown what no client can show it
        arms = [arm for arm in run.finished_arms() if not ARMS.get(arm).ceiling]
        # arms that ask the same model share it; its generator is guarded by a lock
        pool = ModelPool(run.task.folder)
        return {arm: partial(run.answerer, arm, pool) for arm in arms}, default
    shown = folder.resolve().name if folder.is_dir() else name
    if not (folder / "model" / "prompt.json").is_file() and not (folder / "prompt.json").is_file():
        resolve(name)  # a name that nothing answers to is told at once
    return {shown: lambda: open_any(name, ModelPool()).answerer}, shown


def _documents(
    name: str, model: str, quarantine: bool, quote: bool
) -> tuple[dict[str, Callable[[], Servable]], str]:
    """An index, called as the last part of its place."""
    from luthier.models.loading import resolve
    from luthier.models.pool import ModelPool
    from luthier.retrieval.index import Index
    from luthier.retrieval.passages import Scope
    from luthier.serving.documents import IndexAnswerer

    index = Index.open(name)
    shown = str(index.place).rstrip("/").rpartition("/")[2] or "index"
    if not scheme_of(name):
        shown = Path(name).resolve().name or "index"
    if not Path(model).is_dir():
        resolve(model)

    def load() -> Servable:
        generator = ModelPool(Path()).generator(model)
        _ = index.encoder  # now, and not with the first question
        scope = Scope(quarantine=quarantine)
        return IndexAnswerer(shown, index, generator, scope, quote=quote)

    return {shown: load}, shown


def groups_of(name: str) -> frozenset[str]:
    """The access groups of who is served: those of the run's task, and none of anything else."""
    from luthier.runs import Run

    folder = Path(name)
    if not (folder / "manifest.json").is_file():
        return frozenset()
    return frozenset(Run.open(folder).task.retrieval.groups)
