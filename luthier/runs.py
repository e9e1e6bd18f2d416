"""The run folder: one comparison as plain files.

```
OUT/task.yaml  manifest.json  events.jsonl  data/{train,validation,test}.jsonl  lint.json
OUT/arms/ARM/{arm.json, predictions.jsonl, model/}
OUT/verdict.json  report.html
```

Every file is written whole or not at all; `arm.json` is an arm's last file, so an arm that has one
is finished. task.yaml reads its data from the folder itself, which makes the folder all that is
needed to serve, rebuild the report, or run the comparison again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from luthier.data.examples import Example, Message, Splits, content_hash
from luthier.errors import LuthierError, RunError, did_you_mean
from luthier.files import disk_errors, hash_of, read_json, read_jsonl, write_json, write_jsonl
from luthier.files import write_text as write_file
from luthier.retrieval.places import scheme_of
from luthier.task import Task

if TYPE_CHECKING:
    from luthier.arms.base import Answerer
    from luthier.generation.answers import Answer
    from luthier.models.pool import ModelPool

#: What decides the answers; a run may be resumed with other arms, budget or success criteria.
_IDENTITY = ("name", "kind", "instruction", "model", "metric", "training", "generation")

#: These as well, where a task has them.
_ELSEWHERE = ("stages", "mixture", "documents")

_BEFORE_THE_MANIFEST = ("data", "task.yaml", "lint.json", "events.jsonl", ".lock")


class Run:
    """A run folder. Open one with `Run.open`; `luthier.run` makes one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    # ---- making and finding --------------------------------------------------------------------

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in a folder.

        Raises:
            RunError: the folder does not exist or holds no run.
        """
        run = cls(Path(folder))
        if not (run.folder / "manifest.json").is_file():
            missing = "does not exist" if not run.folder.exists() else "holds no run"
            raise RunError(f"{folder} {missing}.", fix="`luthier run TASK --out DIR` makes one.")
        return run

    def check_free(self, identity: str, *, resume: bool) -> None:
        """See that the folder is free for a comparison, or holds this very one to continue.

        Args:
            identity: of the comparison, from `identity_of`.
            resume: whether to continue one.

        Raises:
            RunError: the folder holds something else, the same run without `resume`, or data that
                was changed since.
        """
        manifest = self.folder / "manifest.json"
        if manifest.is_file():
            held = read_json(manifest)
            if held.get("task_hash") != identity:
                raise RunError(
                    f"{self.folder} holds another run (task {held.get('task')!r}, other data or "
                    "settings).",
                    fix="Choose another folder with --out.",
                )
            if not resume:
                raise RunError(
                    f"{self.folder} already holds a run of this task.",
                    fix="Add --resume to continue it, or choose another folder with --out.",
                )
            self._check_locked_data(held)
        elif self.folder.is_dir() and any(
            entry.name not in _BEFORE_THE_MANIFEST and not entry.name.endswith(".part")
            for entry in self.folder.iterdir()
        ):
            raise RunError(
                f"{self.folder} is not empty and holds no run.",
                fix="Choose another folder with --out.",
            )

    def start(self, task: Task, splits: Splits, labels: Sequence[str] | None) -> None:
        """Lock the data, where that has not been done before, and write the task."""
        # a run that has a manifest has its data, and keeps the names of the rows it was begun with
        if not (self.folder / "manifest.json").is_file():
            for name, examples in splits.items():
                write_jsonl(self.folder / "data" / f"{name}.jsonl", (e.to_row() for e in examples))
        write_file(self.folder / "task.yaml", _self_contained(task, splits, labels))

    def _check_locked_data(self, manifest: dict[str, Any]) -> None:
        for name, held in manifest.get("splits", {}).items():
            path = self.folder / "data" / f"{name}.jsonl"
            rows = [Example.from_row(row) for row in read_jsonl(path)]
            if content_hash(rows) != held["hash"]:
                raise RunError(
                    f"{path} has changed since the run began; its results would not be comparable.",
                    fix="Put the file back, or start a new run in another folder.",
                )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second process.

        Raises:
            RunError: another process works in it.
        """
        from filelock import FileLock, Timeout

        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
        try:
            with lock.acquire(timeout=0):
                try:
                    yield
                finally:
                    self._leave_no_trace()
        except Timeout:
            raise RunError(
                f"Another process is working in {self.folder}.",
                fix="Wait for it, or choose another folder with --out.",
            ) from None

    def _leave_no_trace(self) -> None:
        """Take the lock out of a folder in which no run was begun, and an empty one away."""
        if (self.folder / "manifest.json").is_file():
            return
        (self.folder / ".lock").unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    # ---- reading -------------------------------------------------------------------------------

    @cached_property
    def task(self) -> Task:
        """The task, reading its data from the folder."""
        return Task.load(self.folder / "task.yaml")

    @property
    def manifest(self) -> dict[str, Any]:
        """What was run, with which versions, on which data."""
        held: dict[str, Any] = read_json(self.folder / "manifest.json")
        return held

    @property
    def verdict(self) -> dict[str, Any]:
        """verdict.json.

        Raises:
            RunError: the run has not come to a verdict.
        """
        path = self.folder / "verdict.json"
        if not path.is_file():
            raise RunError(
                f"{self.folder} has no verdict yet.",
                fix=f"Continue it: luthier run {self.folder / 'task.yaml'} --out {self.folder} "
                "--resume",
            )
        held: dict[str, Any] = read_json(path)
        return held

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels of a classification."""
        labels = self.manifest.get("labels")
        return tuple(labels) if labels else None

    def arm_folder(self, name: str) -> Path:
        """Where an arm keeps its files."""
        return self.folder / "arms" / name

    def arm_record(self, name: str) -> dict[str, Any] | None:
        """arm.json of a finished arm, else None."""
        path = self.arm_folder(name) / "arm.json"
        if not path.is_file():
            return None
        record: dict[str, Any] = read_json(path)
        return record if record.get("finished") else None

    def finished_arms(self) -> list[str]:
        """Names of the arms that can answer."""
        return [
            arm["name"]
            for arm in self.manifest.get("arms", [])
            if (record := self.arm_record(arm["name"])) and not record.get("failed")
        ]

    # ---- answering -----------------------------------------------------------------------------

    def answerer(self, name: str, pool: ModelPool | None = None) -> Answerer:
        """An arm, opened from its folder.

        Raises:
            RunError: there is no such arm, or it failed.
        """
        from luthier.arms.base import ARMS
        from luthier.models.pool import ModelPool

        record = self.arm_record(name)
        if record is None or record.get("failed"):
            why = f" failed ({record['failed']})" if record else " is not an arm of this run"
            raise RunError(
                f"{self.folder}: {name!r}{why}.", fix=did_you_mean(name, self.finished_arms())
            )
        pool = pool or ModelPool(self.task.folder)
        arm = ARMS.get(name)()
        return arm.open(self.task, self.labels, self.arm_folder(name), record["settings"], pool)

    def arm(self, name: str) -> ArmHandle:
        """An arm to ask: `run.arm("lora").answer(["..."])`."""
        return ArmHandle(self.answerer(name))

    # ---- writing -------------------------------------------------------------------------------

    def event(self, kind: str, **values: object) -> None:
        """Append a line to events.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": kind, **values}, default=str)
        path = self.folder / "events.jsonl"
        with disk_errors(path), path.open("a", encoding="utf-8") as events:
            events.write(line + "\n")

    def spent(self) -> float:
        """Seconds that earlier calls spent on the run: all of them where it was finished, those of
        the arms that were done where it was interrupted."""
        done = [self.arm_record(name) or {} for name in self.finished_arms()]
        arms = sum(float(record.get("seconds") or 0.0) for record in done)
        return max(arms, float(self.manifest.get("seconds") or 0.0))

    def update_manifest(self, **values: Any) -> None:
        """Set keys of manifest.json."""
        path = self.folder / "manifest.json"
        held = read_json(path) if path.is_file() else {}
        write_json(path, {**held, **values})


class ArmHandle:
    """An opened arm for use from Python."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    def answer(self, questions: Sequence[str]) -> list[Answer]:
        """One `Answer` for each question; its `text` is what the arm says."""
        return self._answerer.answer([(Message("user", question),) for question in questions])


def anchored(task: Task) -> Task:
    """The task with the paths besides its data made absolute, and its schema written out, to be
    opened from anywhere.

    Raises:
        InputError: its schema cannot be read or is none.
        ModelError: there is no such model.
    """
    from luthier.data.schemas import given_schema
    from luthier.evaluation.probe_sources import anchored_sources
    from luthier.models.tuned import base_record
    from luthier.staged.plan import absolute

    changes: dict[str, Any] = {}
    if task.judge is not None:
        labelled = task.folder / Path(task.judge.labelled).expanduser()
        changes["judge"] = task.judge.model_dump(mode="json") | {"labelled": str(labelled)}
    if task.answer_schema is not None:
        changes["schema"] = given_schema(task)
    if folder := base_record(task.model, task.folder).get("model_folder"):
        changes["model"] = folder
    if task.documents and (task.folder / task.documents).exists():
        changes["documents"] = str((task.folder / task.documents).absolute())
    for key in ("labels", "index"):
        where = getattr(task.retrieval, key)
        if where and not scheme_of(where):
            held = changes.get("retrieval") or task.retrieval.model_dump(mode="json")
            absolute_path = str((task.folder / Path(where).expanduser()).absolute())
            changes["retrieval"] = held | {key: absolute_path}
    changes["forgetting"] = {
        **task.to_dict()["forgetting"],
        "probes": anchored_sources(task.forgetting.probes, task.folder),
    }
    return task.changed(**changes, **absolute(task))


def identity_of(task: Task, splits: Splits, labels: Sequence[str] | None) -> str:
    """A hash of everything that decides the answers of a run."""
    plain = task.to_dict()
    return hash_of(
        {
            **{key: plain[key] for key in _IDENTITY},
            **{key: plain[key] for key in _ELSEWHERE if plain[key]},
            **({"retrieval": _kept(plain["retrieval"])} if plain["documents"] else {}),
            "labels": list(labels) if labels else None,
            "seed": task.seed,
            "groups": [example.group for example in splits.test],
            "data": {name: content_hash(examples) for name, examples in splits.items()},
        }
    )


def _kept(retrieval: dict[str, Any]) -> dict[str, Any]:
    """Without `index` where it is not given: runs of before there was one go on."""
    return {key: v for key, v in retrieval.items() if key != "index" or v is not None}


def _self_contained(task: Task, splits: Splits, labels: Sequence[str] | None) -> str:
    """The task as YAML, reading the data that lies beside it."""
    values = task.to_dict()
    grouped = any(e.group is not None for _, examples in splits.items() for e in examples)
    values["data"] = {
        "train": "data/train.jsonl",
        "validation": "data/validation.jsonl" if splits.validation else None,
        "test": "data/test.jsonl",
        "messages": "messages",
        "group": "group" if grouped else None,
    }
    values["labels"] = list(labels) if labels else None
    head = "# Written by luthier run: the task as it was run, with its data beside it.\n"
    return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def reason_of(error: Exception, what: str, folder: Path) -> str:
    """Why something failed, for people.

    Args:
        error: that ended it.
        what: was to be stored.
        folder: where.

    Raises:
        RunError: the folder cannot be written, or the disk is full: nothing else would fare better.
    """
    if isinstance(error, RunError):
        raise error
    if disk_is_full(error):
        raise RunError(
            f"The disk is full: {what} could not be stored in {folder}.",
            fix="Free some space; what was written before is kept, and --resume continues.",
        ) from error
    if isinstance(error, LuthierError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def disk_is_full(error: BaseException) -> bool:
    """Whether an error came of a full disk (or quota, or the size a file may have).

    The safetensors library reports such errors as its own, with the system's number in the text.
    """
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in full:
            return True
        if any(f"os error {number})" in str(seen) for number in full):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
