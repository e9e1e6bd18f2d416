"""What the arms of a run are, and whether the budget has room for them."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.arms.base import ARMS, Arm, Workplace
from luthier.errors import InputError, did_you_mean
from luthier.task import Task

#: What a written token costs, in read ones.
_WRITTEN = 3


@dataclass(frozen=True)
class Planned:
    """An arm of a run, or one left out, and why."""

    name: str
    why: str


def answering_seconds(place: Workplace, answers: int, *, shown: float = 0) -> float:
    """Roughly how long the task's model takes for so many answers on this machine.

    A written token costs about three times a read one: answers are written many at a time (measured
    on two processors without bfloat16, 2 to 25 tokens an answer; alone it would be ten times).

    Args:
        place: the arm's.
        answers: how many.
        shown: characters that are read with each besides its question, as passages are.
    """
    from luthier.models.estimate import estimate
    from luthier.models.tuned import describe_any

    info = describe_any(place.task.model, base=place.task.folder)
    rate = estimate(info, "prompt").tokens_per_second
    sample = place.train[:50]
    # four characters a token, and a few that end an answer
    read = (sum(len(e.input) for e in sample) / len(sample) + shown) / 4
    written = sum(len(e.output) for e in sample) / 4 / len(sample) + 4
    return answers * (read + _WRITTEN * written) / rate


def choose_arms(task: Task) -> tuple[list[Planned], list[Planned]]:
    """The arms to run in the order they run, and the known arms left out; both with reasons.

    Raises:
        InputError: an unknown arm, or one that cannot do this kind of task.
    """
    if task.arms != "auto":
        chosen = []
        for name in dict.fromkeys(task.arms):
            if name not in ARMS:
                raise InputError(
                    f"{task.path}: `arms` names {name!r}, which is no arm.",
                    fix=did_you_mean(name, ARMS.names()),
                )
            arm = ARMS.get(name)()
            if why := arm.unsuited(task):
                raise InputError(f"{task.path}: {why}.", fix="Take it out of `arms`.")
            chosen.append(arm)
        chosen.sort(key=lambda arm: arm.order)
        return [Planned(arm.name, "named in the task") for arm in chosen], []
    planned, left_out = [], []
    for arm in sorted((kind() for _, kind in ARMS), key=lambda arm: arm.order):
        if why := arm.unsuited(task):
            left_out.append(Planned(arm.name, why))
        elif not arm.in_auto:
            left_out.append(Planned(arm.name, "not part of `arms: auto`; name it to have it run"))
        else:
            planned.append(Planned(arm.name, reason(arm, task)))
    return planned, left_out


def reason(arm: Arm, task: Task) -> str:
    """Why an arm is worth running on a task."""
    if arm.floor:
        return "the floor that anything worth deploying must beat"
    if arm.changes_weights:
        return f"suits every kind of task with training examples, {task.kind} among them"
    if arm.kinds is not None:
        return f"a cheap way of doing {task.kind}"
    return "needs no training"
