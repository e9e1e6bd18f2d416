"""Several tasks in one stage: the order of their rows, and the loss of each.

Neither the loop nor the objective knows of it. The loop gets a list in an order; the objective is
wrapped in one that computes the rows of each task apart (which lets them share their instruction)
and remembers what each came to.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from luthier.data.mixtures import draw
from luthier.files import disk_errors
from luthier.task_training import Replay
from luthier.training.objective import TrainingItem
from luthier.training.remedies.replay import NAME as REPLAYED


@dataclass(frozen=True)
class TaskItem:
    """An item of one of several tasks; `place` is its own in the list that is trained on."""

    item: TrainingItem
    task: str
    place: int

    @property
    def length(self) -> int:
        """See `TrainingItem`."""
        return self.item.length

    @property
    def weight(self) -> float:
        """See `TrainingItem`."""
        return self.item.weight


def in_order(
    items: Sequence[TrainingItem],
    tasks: Sequence[str],
    shares: Mapping[str, float],
    *,
    epochs: float,
    seed: int,
) -> tuple[list[TaskItem], list[int], list[str]]:
    """All draws of a stage.

    Args:
        items: of all tasks, those of one task beside each other.
        tasks: the task of each item.
        shares: of each task among the draws.
        epochs: a pass is as many draws as there are items.
        seed: of the draws.

    Returns:
        (the items drawn, one after another; for each its index in `items`; notes).
    """
    # a task all of whose rows were left out for their length is drawn from no more
    names = [name for name in shares if name in set(tasks)]
    sizes = [tasks.count(name) for name in names]
    whole = sum(shares[name] for name in names)
    rows = sorted(range(len(items)), key=lambda row: names.index(tasks[row]))
    total = max(1, round(epochs * len(items)))
    drawn = [
        rows[place] for place in draw(sizes, [shares[name] / whole for name in names], total, seed)
    ]
    listed = [TaskItem(items[row], tasks[row], place) for place, row in enumerate(drawn)]
    notes = []
    for name, size in zip(names, sizes, strict=True):
        count = sum(tasks[row] == name for row in drawn)
        notes.append(
            f"{name}: {count:,} of {total:,} draws from {size:,} rows ({count / size:.2f} each)."
        )
    return listed, drawn, notes


def with_replay(shares: Mapping[str, float], replay: Replay | None) -> dict[str, float]:
    """The shares of a mixture's tasks, and of replayed rows among them."""
    if replay is None:
        return dict(shares)
    return {**{k: v * (1 - replay.ratio) for k, v in shares.items()}, REPLAYED: replay.ratio}


class PerTask:
    """An objective over `TaskItem`s; other items it leaves to the objective within.

    Args:
        inner: the objective that all tasks have.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._sums: dict[str, tuple[float, float]] = {}
        self._places: set[int] = set()

    def sizes(self, items: Sequence[Any]) -> list[int]:
        """Of the items within; the beginning that all share is the only one counted once."""
        return list(self.inner.sizes([_inner(item) for item in items]))

    def loss(self, model: Any, items: Sequence[Any]) -> torch.Tensor:
        """The sum over the tasks of the objective's own sums."""
        groups: dict[str, list[TaskItem]] = {}
        for item in items:
            if not isinstance(item, TaskItem):
                whole: torch.Tensor = self.inner.loss(model, items)
                return whole
            groups.setdefault(item.task, []).append(item)
        losses = []
        for task, group in groups.items():
            loss: torch.Tensor = self.inner.loss(model, [item.item for item in group])
            losses.append(loss)
            if torch.is_grad_enabled():
                self._remember(task, float(loss.detach()), group)
        return torch.stack(losses).sum()

    def _remember(self, task: str, loss: float, group: Sequence[TaskItem]) -> None:
        places = {item.place for item in group}
        if places & self._places:  # the step was begun again, in smaller parts
            self._sums, self._places = {}, set()
        self._places |= places
        before, weight = self._sums.get(task, (0.0, 0.0))
        self._sums[task] = before + loss, weight + sum(item.weight for item in group)

    def taken(self) -> dict[str, float]:
        """The mean loss of each task's trained tokens since this was last asked (of several
        processes: of those that this one computed)."""
        found = {task: loss / weight for task, (loss, weight) in self._sums.items() if weight}
        self._sums, self._places = {}, set()
        return dict(sorted(found.items()))


class TaskCurves:
    """Each task's (step, loss), kept in a file beside the checkpoints so that an interrupted stage
    loses none of it.

    Args:
        path: a line for each step; a step that is repeated after an interruption has two.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, step: int, losses: Mapping[str, float]) -> None:
        """Take what a step came to."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as lines:
                # a line that a kill cut in half ends here
                lines.write("\n" + json.dumps({"step": step, "losses": losses}))

    def read(self) -> dict[str, list[tuple[int, float]]]:
        """By task, in the order of the steps; the newest of a step that is there twice."""
        if not self.path.is_file():
            return {}
        by_step: dict[int, dict[str, float]] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            # a step whose line was cut in half was not finished, and comes again
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                by_step[row["step"]] = row["losses"]
        curves: dict[str, list[tuple[int, float]]] = {}
        for step in sorted(by_step):
            for task, loss in by_step[step].items():
                curves.setdefault(task, []).append((step, loss))
        return curves


def _inner(item: Any) -> Any:
    return item.item if isinstance(item, TaskItem) else item
