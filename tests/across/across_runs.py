"""Finished runs with answers drawn at random, and verdicts that the comparison's own code made."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from luthier.data.examples import Example, Message, content_hash
from luthier.evaluation.clusters import clusters_of
from luthier.evaluation.scoring import deciding_metric
from luthier.files import write_json, write_jsonl
from luthier.results import arm_result
from luthier.runs import Run
from luthier.task import Task
from luthier.verdict.compare import compare
from luthier.verdict.decide import decide
from luthier.verdict.document import build_verdict

LABELS = ("blue", "green", "red")
COSTS = {
    "train_seconds": 0.0,
    "seconds_per_answer": 0.1,
    "trained_parameters": 0,
    "prompt_tokens_per_answer": 20.0,
}


def rows_of(split: str, count: int, *, start: int = 0, labels: Sequence[str] = LABELS) -> list[Any]:
    """Examples that no other start or split has."""
    return [
        Example(
            id=f"{split}-{i}",
            messages=(Message("user", f"What colour is the {split} box {i}?"),),
            output=labels[i % len(labels)],
        )
        for i in range(start, start + count)
    ]


def write_run(
    folder: Path,
    *,
    arms: Mapping[str, float],
    test: Sequence[Example] | None = None,
    train: Sequence[Example] | None = None,
    draw: int = 0,
    labels: Sequence[str] | None = LABELS,
    model: str = "tiny",
    verdict: bool = True,
    manifest: Mapping[str, Any] | None = None,
    **task: Any,
) -> Path:
    """A run folder as `luthier run` leaves it.

    Args:
        arms: name of each arm, and the chance that an answer of it is right.
        draw: seed of the answers.
        verdict: whether the run is finished.
        manifest, task: keys that are set.
    """
    test = rows_of("test", 60) if test is None else test
    train = rows_of("train", 30) if train is None else train
    splits = {"train": train, "validation": [], "test": test}
    for name, rows in splits.items():
        write_jsonl(folder / "data" / f"{name}.jsonl", (e.to_row() for e in rows))
    values: dict[str, Any] = {
        "name": "colours",
        "kind": "classification",
        "instruction": "Name the colour.",
        "labels": list(labels) if labels else None,
        "data": {
            "train": "data/train.jsonl",
            "test": "data/test.jsonl",
            "messages": "messages",
            "group": "group" if any(e.group for e in test) else None,
        },
        "model": model,
        "arms": list(arms),
        **task,
    }
    kept = {key: value for key, value in values.items() if value is not None}
    (folder / "task.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")
    write_json(
        folder / "manifest.json",
        {
            "luthier": "0.1.0",
            "task_hash": "x",
            "seed": values.get("seed", 0),
            "command": f"luthier run task.yaml --out {folder.name}",
            "splits": {n: {"rows": len(r), "hash": content_hash(r)} for n, r in splits.items()},
            "labels": list(labels) if labels else None,
            "machine": {"cores": 2, "memory_bytes": 24_000_000_000, "gpus": []},
            "versions": {"python": "3.11", "torch": "2.13.0"},
            "model": {"name": model, "path": "", "parameters": 1000},
            "arms": [{"name": name, "why": ""} for name in arms],
            "left_out": [],
            **(manifest or {}),
        },
    )
    loaded = Task.load(folder / "task.yaml")
    metric = deciding_metric(loaded.scored_by, loaded.kind)
    for name, chance in arms.items():
        random_ = random.Random(f"{draw} {name}")
        home = folder / "arms" / name
        write_jsonl(home / "predictions.jsonl", (_answer(e, chance, random_) for e in test))
        record = {"name": name, "title": name, "finished": True, "failed": None, "settings": {}}
        write_json(home / "arm.json", {**record, "costs": COSTS, "choices": [], "notes": []})
    if not verdict:
        return folder
    run = Run(folder)
    results = [
        arm_result(run, name, kind=loaded.kind, labels=run.labels, metric=metric) for name in arms
    ]
    clusters, narrow = clusters_of(test)
    compared = compare(results, metric, seed=loaded.seed, clusters=clusters)
    decision = decide(compared, loaded.success)
    made = build_verdict(loaded, len(test), compared, decision, warnings=narrow)
    write_json(folder / "verdict.json", made)
    return folder


def _answer(example: Example, chance: float, random_: random.Random) -> dict[str, Any]:
    right = random_.random() < chance
    said = example.output if right else random_.choice([*LABELS, "a colour"])
    return {
        "id": example.id,
        "input": example.input,
        "reference": example.output,
        "prediction": said,
        "score": float(said == example.output),
        "seconds": 0.1,
        "prompt_tokens": 20,
        "completion_tokens": 1,
        "finish_reason": "stop",
    }
