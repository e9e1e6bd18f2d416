"""The stages of a task: which they are, in their order, each with its own task and data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from luthier.data.examples import content_hash
from luthier.data.held_out import without_tests
from luthier.data.mixtures import members
from luthier.data.prepare import Prepared, prepare
from luthier.data.sources import understood
from luthier.errors import InputError
from luthier.files import hash_of
from luthier.task import Task
from luthier.task_training import Stage


@dataclass(frozen=True)
class Link:
    """One stage of a chain.

    Attributes:
        name: unique in the chain; a folder is called so.
        task: what is learned in it, with the training section that holds for it.
        method: of tuning.
        own: whether it is the very task that the chain belongs to.
    """

    name: str
    task: Task
    method: str
    own: bool


@dataclass(frozen=True)
class Ready:
    """A stage with its data.

    Attributes:
        prepared: training rows that another stage tests on have been left out.
        notes: for people.
    """

    link: Link
    prepared: Prepared
    notes: tuple[str, ...]


def chain(task: Task, method: str = "lora") -> tuple[Link, ...]:
    """The stages of a task, those of the tasks it names included; the task itself is the last.

    Where the file's last stage is another task, one on the task itself follows it.

    Args:
        task: has `stages`.
        method: of stages that name none.

    Raises:
        InputError: a stage whose task is missing or cannot be read, tasks that name each other in a
            circle, two stages of one name, an unknown method. The message names the stage.
    """
    links = _links(task, method, (task.path.resolve(),), "")
    names = [link.name for link in links]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"{task.path}: two stages are called {name!r} (the last one, on the task itself, "
                "has the task's name unless it is listed).",
                fix="Rename one of them.",
            )
    return tuple(links)


def _links(task: Task, method: str, seen: tuple[Path, ...], prefix: str) -> list[Link]:
    from luthier.training.config import refuse_ignored

    links: list[Link] = []
    for index, stage in enumerate(task.stages):
        where = f"{task.path}: `stages.{index}` ({stage.name})"
        try:
            own = _is_own(stage)
            of_stage, before = _task_of(stage, task, method, seen, prefix)
            links += before
            with_method = stage.method or method
            if stage.training is not None:
                said = stage.training.model_dump(mode="json", exclude_unset=True)
                of_stage = of_stage.changed(
                    training={**of_stage.training.model_dump(mode="json"), **said}
                )
            refuse_ignored(of_stage.training, [with_method])
            _check_objective(of_stage, with_method)
        except InputError as error:
            raise InputError(f"{where}: {error.message}", fix=error.fix) from None
        links.append(Link(prefix + stage.name, of_stage, with_method, own and not prefix))
    if not (task.stages and _is_own(task.stages[-1])):
        links.append(Link(prefix + task.name, task.changed(stages=[]), method, not prefix))
    return links


def _check_objective(task: Task, method: str) -> None:
    """See that a stage leaves a model that can be tuned further and asked."""
    from luthier.training.method import METHODS
    from luthier.training.objective import check_method, objective_of

    METHODS.get(method)
    objective = objective_of(task.training, raw_text=task.data.text is not None)
    check_method(objective, method)
    if not (objective.writes or objective.raw_text):
        raise InputError(
            f"`training.objective: {objective.name}` leaves a model that writes no answers, and a "
            "stage must.",
            fix="Leave `training.objective` out.",
        )


def _task_of(
    stage: Stage, task: Task, method: str, seen: tuple[Path, ...], prefix: str
) -> tuple[Task, list[Link]]:
    """(the task of one stage, the stages that its own file puts before it)."""
    if stage.task is None:
        return understood(_inline(stage, task)), []
    found = Task.load(task.folder / Path(stage.task).expanduser())
    place = found.path.resolve()
    if place in seen:
        names = " -> ".join(path.parent.name for path in (*seen[seen.index(place) :], place))
        raise InputError(
            f"the tasks name each other in a circle: {names}.",
            fix="A stage without `task` and `data` is the task itself.",
        )
    before: list[Link] = []
    if found.stages:
        inner = _links(found, method, (*seen, place), f"{prefix}{stage.name}-")
        # the last of them is the found task itself, which this stage stands for
        before, found = inner[:-1], inner[-1].task
    if stage.instruction is not None:
        found = found.changed(instruction=stage.instruction)
    return understood(found.changed(stages=[])), before


def _inline(stage: Stage, task: Task) -> Task:
    """The task itself, or another one written into its file."""
    changes: dict[str, Any] = {"stages": [], "mixture": None}
    if stage.instruction is not None:
        changes["instruction"] = stage.instruction
    if stage.data is not None or stage.kind is not None or stage.labels is not None:
        text = stage.data is not None and stage.data.text is not None
        kind = stage.kind or ("generation" if text else task.kind)
        changes |= {
            "name": stage.name,
            "kind": kind,
            "labels": stage.labels,
            "metric": task.metric if kind == task.kind else None,
            "data": (stage.data or task.data).model_dump(mode="json"),
        }
    return task.changed(**changes)


def _is_own(stage: Stage) -> bool:
    return not (stage.task or stage.data or stage.kind or stage.labels or stage.instruction)


def data_of(task: Task) -> Prepared:
    """A task's data; raw text has no test.

    Raises:
        InputError, ModelError: see `prepare`.
    """
    if task.data.text is not None:
        from luthier.data.texts import prepare_texts

        return prepare_texts(task)
    return prepare(task)


def read(links: Sequence[Link]) -> list[Ready]:
    """The data of every stage.

    A row that one stage tests on is left out of what the others train on.

    Raises:
        InputError: data that cannot be used, or a stage that has no training row left.
    """
    data = []
    for link in links:
        try:
            data.append(data_of(link.task))
        except InputError as error:
            raise InputError(f"Stage {link.name}: {error.message}", fix=error.fix) from None
    tests = [prepared.splits.test for prepared in data]
    ready = []
    for link, prepared in zip(links, data, strict=True):
        kept, left_out = without_tests(prepared.splits.train, tests)
        if not kept:
            raise InputError(
                f"Stage {link.name}: no training row is left, other stages test on all of them.",
                fix="Give the stages' tasks a common `data.test`.",
            )
        notes = [
            f"{link.name}: {left_out} training rows are test questions of another stage, and were "
            "left out."
        ] * bool(left_out)
        splits = replace(prepared.splits, train=kept)
        ready.append(Ready(link, replace(prepared, splits=splits), tuple(notes)))
    return ready


def identity(ready: Sequence[Ready], model: str) -> str:
    """A hash of all that decides what the chain comes to."""
    return hash_of(
        {
            "model": model,
            "stages": [
                {
                    "name": one.link.name,
                    "method": one.link.method,
                    "kind": one.link.task.kind,
                    "metric": one.link.task.chosen_by,
                    "instruction": one.link.task.instruction,
                    "training": one.link.task.training.model_dump(mode="json"),
                    "generation": one.link.task.generation.model_dump(mode="json"),
                    "seed": one.link.task.seed,
                    "data": {
                        name: content_hash(rows) for name, rows in one.prepared.splits.items()
                    },
                }
                for one in ready
            ],
        }
    )


def check_elsewhere(task: Task) -> None:
    """See that what the task names elsewhere is there: stages, members of a mixture, replayed rows.

    Raises:
        InputError: something is missing or makes no sense. The message names the key.
    """
    from luthier.training.remedies.replay import source_rows

    members(task)
    for one in (task, *(link.task for link in (chain(task) if task.stages else ()))):
        if one.wishes.replay is not None:
            source_rows(one.wishes.replay.source, one.folder)


def absolute(task: Task) -> dict[str, Any]:
    """Keys of a task whose paths lead elsewhere, with these paths made absolute."""
    changes: dict[str, Any] = {}
    if task.training.replay is not None:
        changes["training"] = task.wishes.model_dump(mode="json")
    if task.stages:
        stages = [stage.model_dump(mode="json") for stage in task.stages]
        for stage in stages:
            if stage["task"]:
                stage["task"] = _from(task.folder, stage["task"])
            for key in ("train", "validation", "test"):
                if stage["data"] and stage["data"][key]:
                    stage["data"][key] = _from(task.folder, stage["data"][key])
            if stage["training"] and stage["training"].get("replay"):
                replay = stage["training"]["replay"]
                replay["from"] = task.replay_path(replay["from"])
        changes["stages"] = stages
    if task.mixture is not None:
        mixture = task.mixture.model_dump(mode="json")
        for member in mixture["tasks"]:
            if member["task"]:
                member["task"] = _from(task.folder, member["task"])
        changes["mixture"] = mixture
    return changes


def _from(folder: Path, path: str) -> str:
    if path.startswith("hub:"):
        return path
    return str((folder / Path(path).expanduser()).absolute())
