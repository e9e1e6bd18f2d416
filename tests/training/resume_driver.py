"""Runs training stages in forks of one process that has imported everything, which spares the
imports: one JSON job a line on standard input, one JSON answer a line on standard output.

A job: {"model", "folder", "method", "wishes", "kill"}. `kill` is null, {"step": n} (SIGKILL to
itself when step n has been reported), {"write": n, "after": share} (in the middle of the n-th
checkpoint's tensors, that share of the bytes written) or {"rename": n} (when the n-th checkpoint is
whole and has not yet been put in its place).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import peft  # noqa: F401
import torch
from training_fakes import examples

from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training import checkpoints
from luthier.training.method import METHODS
from luthier.training.stage import train_stage


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killing(Reporter):
    """Ends the process at a step."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    def event(self, kind: str, **values: object) -> None:
        if kind == "step" and values["step"] == self.step:
            die()


def arrange(kill: dict[str, Any]) -> None:
    """Have the n-th checkpoint end the process."""
    save, written = checkpoints.save_file, 0
    publish = Path.replace

    def half(tensors: Any, path: Path) -> None:
        nonlocal written
        written += 1
        save(tensors, path)
        if written == kill.get("write"):
            data = path.read_bytes()
            path.write_bytes(data[: int(len(data) * kill["after"])])
            die()

    def unpublished(self: Path, target: Path) -> Path:
        if Path(target).name.startswith("step-") and written == kill.get("rename"):
            die()
        return publish(self, target)

    checkpoints.save_file = half
    Path.replace = unpublished  # type: ignore[method-assign]


def stage(job: dict[str, Any]) -> None:
    kill = job["kill"] or {}
    arrange(kill)
    result = train_stage(
        model_name=job["model"],
        base=None,
        instruction="Count the words.",
        examples=examples(16),
        wishes=Training(**job["wishes"]),
        method=job["method"],
        seed=0,
        folder=Path(job["folder"]),
        reporter=Killing(kill.get("step")),
        validation=examples(6, seed=3),
    )
    (Path(job["folder"]) / "result.json").write_text(json.dumps(result.to_dict()))


if __name__ == "__main__":
    METHODS.names()
    for heavy in ("models.tuned", "training.loop", "training.objectives.sft"):
        importlib.import_module(f"luthier.{heavy}")
    torch.set_num_threads(1)
    # a child that collects garbage would copy all that it looks through
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(job["folder"] + ".err", os.O_CREAT | os.O_WRONLY), 2)
            os.dup2(2, 1)
            code = 1
            try:
                stage(job)
                code = 0
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)
