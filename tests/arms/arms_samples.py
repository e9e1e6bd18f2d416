"""Workplaces for arms: a few rows, a tiny model, a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier.arms.base import Workplace
from luthier.data.examples import Example, Message
from luthier.models.pool import ModelPool
from luthier.progress import Reporter
from luthier.task import Task

COLOURS = ("blue", "green", "red")


def example(text: str, output: str) -> Example:
    return Example(text, (Message("user", text),), output, source=f"rows.csv {text}")


def colours(start: int, count: int, labels: Sequence[str] = COLOURS) -> tuple[Example, ...]:
    return tuple(
        example(f"item {i}: {labels[i % len(labels)]}", labels[i % len(labels)])
        for i in range(start, start + count)
    )


def task(model: Path, **changes: Any) -> Task:
    return Task.from_dict(
        {
            "name": "colours",
            "kind": "classification",
            "instruction": "Name the colour.",
            "data": {"train": "rows.csv", "input": "{{ q }}", "output": "{{ k }}"},
            "model": str(model),
            **changes,
        }
    )


def workplace(
    model: Path,
    folder: Path,
    *,
    train: Sequence[Example] | None = None,
    validation: Sequence[Example] | None = None,
    labels: Sequence[str] | None = COLOURS,
    minutes: float = 10,
    **changes: Any,
) -> Workplace:
    return Workplace(
        task=task(model, **changes),
        train=tuple(colours(0, 30) if train is None else train),
        validation=tuple(colours(100, 9) if validation is None else validation),
        labels=tuple(labels) if labels else None,
        folder=folder,
        pool=ModelPool(folder),
        reporter=Reporter(),
        minutes=minutes,
    )
