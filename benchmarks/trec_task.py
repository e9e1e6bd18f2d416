"""The task on TREC that several benchmarks share: name the kind of answer a question asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import luthier

#: The six coarse kinds, spelled as words that a model can write.
KINDS = {
    "ABBR": "abbreviation",
    "DESC": "description",
    "ENTY": "entity",
    "HUM": "human",
    "LOC": "location",
    "NUM": "number",
}


def trec_task(data: Path, limit: dict[str, int], **more: Any) -> luthier.Task:
    """The task, with so many rows of each part.

    Args:
        data: the folder with trec/train.csv and trec/test.csv (columns question and kind).
        limit: rows of "train", "validation" and "test".
        more: other keys of the task.
    """
    names, home = list(KINDS.values()), data.absolute() / "trec"
    return luthier.Task.from_dict(
        {
            "name": "trec",
            "kind": "classification",
            "instruction": "Name the kind of answer the question asks for, in one word: "
            f"{', '.join(names[:-1])} or {names[-1]}.",
            "labels": names,
            "data": {
                "train": str(home / "train.csv"),
                "test": str(home / "test.csv"),
                "input": "{{ question }}",
                "output": "{{ " + json.dumps(KINDS) + "[kind] }}",
                "limit": limit,
            },
            **more,
        }
    )
