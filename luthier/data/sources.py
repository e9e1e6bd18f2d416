"""What a task's rows are: the format of its source, said aloud, and what that format tells of how a
row becomes an example."""

from __future__ import annotations

from luthier.data.format import Detected, detect
from luthier.data.reading import READERS
from luthier.data.refused import Refused
from luthier.errors import InputError
from luthier.task import Task


def understood(task: Task) -> Task:
    """The task with the keys of `data` that its `format` tells filled in; any other as it is.

    Raises:
        InputError: the rows cannot be read, or their format does not tell what is asked and what
            is answered.
        ModelError: a hub that cannot be reached.
    """
    data = task.data
    if data.format is None or data.tells:
        return task
    found = detect(data.train, task.folder, format=data.format, refused=_taking(task))
    if found.recipe is None:
        raise InputError(
            f"{task.path}: `data` does not say what is asked and what is answered, and the rows do "
            f"not tell. {found.sentence}",
            fix=f"Give `input` and `output`, such as {_example(found)}, or `messages`.",
        )
    return task.changed(data=task.to_dict()["data"] | found.recipe.keys())


def reading_note(task: Task) -> list[str]:
    """A sentence on what the rows are read as, where they look like a format or one is named."""
    data = task.data
    if any(data.train.startswith(name) for name in READERS.names() if name.endswith(":")):
        return []  # a hub is not asked twice
    found = detect(data.train, task.folder, format=data.format, refused=_taking(task))
    if found.format is None:
        return []
    if data.format is not None or found.format.of_lines:  # of lines rows are always made
        return [found.sentence]
    shown = ", ".join(found.columns[:12]) + ", ..." * (len(found.columns) > 12)
    looks = f"{data.train}: read as a table ({shown}); it looks like {found.format.title}."
    if found.format.keeps:
        return [looks]
    return [f"{looks} `data.format: {found.format.name}` gives the rows that it means."]


def _taking(task: Task) -> Refused | None:
    """What takes broken rows at a first look, where the task goes on without them."""
    return Refused() if task.data.refused == "skip" else None


def _example(found: Detected) -> str:
    column = next((name for name in found.columns if name.isidentifier()), "column")
    return f"input: '{{{{ {column} }}}}'"
