"""Tasks small enough to be run whole in a test, and the command line in this process."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

COLOURS = ("blue", "green", "red")
ARMS = ["majority", "zero-shot", "few-shot", "lora"]


def colour_rows(count: int = 40) -> list[dict[str, str]]:
    """Questions about colours; no two are alike."""
    return [
        {"q": f"item {i}: a {COLOURS[i % 3]} {'box' if i % 2 else 'cup'}", "k": COLOURS[i % 3]}
        for i in range(count)
    ]


@contextmanager
def few_probes() -> Iterator[None]:
    """Every tenth question and every sixth passage of the probes that come with the project.

    They take half of the time of a run on a tiny model. `test_comparing.py` has runs with them all.
    """
    from luthier.evaluation import probe_sources

    questions, passages = (
        probe_sources.general_probes()[::10],
        probe_sources.general_passages()[::6],
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(probe_sources, "general_probes", lambda: questions)
        patched.setattr(probe_sources, "general_passages", lambda: passages)
        yield


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_task(folder: Path, model: Path, *, rows: int = 40, **changes: Any) -> Path:
    """A classification of colours in `folder`; returns its task.yaml.

    Args:
        changes: top-level keys to set; None takes one out.
    """
    write_csv(folder / "rows.csv", colour_rows(rows))
    values: dict[str, Any] = {
        "name": "colours",
        "kind": "classification",
        "instruction": "Name the colour.",
        "data": {"train": "rows.csv", "input": "{{ q }}", "output": "{{ k }}"},
        "model": str(model),
        "arms": ARMS,
        "training": {"epochs": 1, "batch_size": 8},
        **changes,
    }
    path = folder / "task.yaml"
    kept = {key: value for key, value in values.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    return path


def with_context(model: Path, folder: Path, tokens: int) -> Path:
    """A copy of a tiny model that reads so many tokens."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = tokens
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files_below(folder: Path) -> dict[str, str]:
    """Hashes of all files, by path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


#: What a clock or this machine's memory decides, and no seed.
_MEASURED = ("seconds", "memory", "per_second", "break_even", "joules")


def without_measurements(value: Any) -> Any:
    """A verdict without what differs from one time to the next: costs, and sentences on them."""
    if isinstance(value, dict):
        return {
            key: without_measurements(item)
            for key, item in value.items()
            if not any(word in key for word in _MEASURED)
        }
    if isinstance(value, list):
        return [without_measurements(item) for item in value]
    return value


def results(folder: Path) -> dict[str, Any]:
    """What a run came to: the verdict, and every arm's answers, without measured costs."""
    verdict = json.loads((folder / "verdict.json").read_text())
    return {
        "verdict": without_measurements(verdict),
        "answers": {
            arm.name: without_measurements(read_jsonl(arm / "predictions.jsonl"))
            for arm in sorted((folder / "arms").iterdir())
            if (arm / "predictions.jsonl").is_file()
        },
    }


@contextmanager
def arguments(*words: object) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["luthier", *map(str, words)]
    try:
        yield
    finally:
        sys.argv = before


def luthier(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run the command line here; returns (exit code, standard output, standard error)."""
    from luthier.cli import main

    capsys.readouterr()
    with arguments(*words), pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


def write_tiny_encoder(folder: Path, tiny_model: Path) -> Path:
    """A random two-layer BERT without a pooler, with the tokenizer of the tiny model."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        initializer_range=0.3,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
