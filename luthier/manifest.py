"""manifest.json: with what, from what and where a run was made."""

from __future__ import annotations

import datetime
import platform

from luthier import __version__
from luthier.arms.planning import Planned
from luthier.data.examples import content_hash
from luthier.data.prepare import Prepared
from luthier.files import read_json
from luthier.runs import Run
from luthier.task import Task

#: Versions that are written down.
_LIBRARIES = ("torch", "transformers", "peft", "scikit-learn", "numpy")


def write_manifest(
    run: Run,
    task: Task,
    prepared: Prepared,
    planned: list[Planned],
    left_out: list[Planned],
    identity: str,
    command: str,
) -> None:
    """Write what is known when a run starts; what an earlier start wrote of it stays.

    Args:
        run: the folder.
        task: as it is run, command-line changes included.
        prepared: its data.
        planned: the arms that will run, and why.
        left_out: those that will not, and why.
        identity: what tells this run from others, see `runs.identity_of`.
        command: how it was started.
    """
    from importlib.metadata import version

    from luthier.models.machine import this_machine
    from luthier.models.tuned import describe_any

    machine = this_machine()
    model = describe_any(task.model, base=task.folder)
    path = run.folder / "manifest.json"
    held = read_json(path) if path.is_file() else {}
    run.update_manifest(
        luthier=__version__,
        created=held.get("created")
        or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        task=task.name,
        task_file=str(task.path),
        task_hash=identity,
        seed=task.seed,
        command=held.get("command") or command or f"luthier run {task.path}",
        splits={
            name: {"rows": len(examples), "hash": content_hash(examples)}
            for name, examples in prepared.splits.items()
        },
        labels=list(prepared.labels) if prepared.labels else None,
        notes=list(prepared.notes),
        machine={
            "cores": machine.cores,
            "memory_bytes": machine.memory_total,
            "gpus": [gpu.name for gpu in machine.gpus],
            "platform": machine.platform,
        },
        versions={
            "python": platform.python_version(),
            **{library: version(library) for library in _LIBRARIES},
        },
        model={"name": task.model, "path": str(model.path), "parameters": model.parameters},
        arms=[{"name": p.name, "why": p.why} for p in planned],
        left_out=[{"name": p.name, "why": p.why} for p in left_out],
    )
