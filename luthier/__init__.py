"""Luthier tunes a language model to a task, and shows whether that was the right thing to do.

    import luthier as lu

    task = lu.Task.load("task.yaml")
    run = lu.run(task)
    print(run.verdict["headline"])
    print(run.arm("lora").answer(["Where is my parcel?"]))

The command line, `luthier`, is a thin layer over this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from luthier.comparing import run as run
    from luthier.jobs import evaluate as evaluate
    from luthier.jobs import train as train
    from luthier.runs import Run as Run
    from luthier.task import Task as Task

_WHERE = {
    "Task": "luthier.task",
    "Run": "luthier.runs",
    "evaluate": "luthier.jobs",
    "run": "luthier.comparing",
    "train": "luthier.jobs",
}

__all__ = ["Run", "Task", "__version__", "evaluate", "run", "train"]


def __getattr__(name: str) -> Any:
    # found when asked for, so that `import luthier` and `luthier --help` stay quick
    import importlib

    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'luthier' has no attribute {name!r}")
