"""What a server offers: all arms of a run by name, or one training stage, or one model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from luthier.serving.servable import Servable


def offer(name: str) -> tuple[dict[str, Callable[[], Servable]], str]:
    """Loaders by model name, and the name of the default.

    Args:
        name: a run folder (default: the recommended arm), the folder of a training stage, a
            catalogue name, a folder or a hub id.

    Raises:
        RunError: a run without a verdict, or without an arm that finished.
        ModelError: no such model.
    """
    from luthier.arms.base import ARMS
    from luthier.jobs import open_any, recommended
    from luthier.models.loading import resolve
    from luthier.models.pool import ModelPool
    from luthier.runs import Run

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


def groups_of(name: str) -> frozenset[str]:
    """The access groups of who is served: those of the run's task, and none of anything else."""
    from luthier.runs import Run

    folder = Path(name)
    if not (folder / "manifest.json").is_file():
        return frozenset()
    return frozenset(Run.open(folder).task.retrieval.groups)
