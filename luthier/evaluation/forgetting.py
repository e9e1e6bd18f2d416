"""What a model knew before it was tuned, and whether it still does.

A set of multiple-choice probes written for this project (`probes/general.jsonl`) is answered by
likelihood, before and after tuning, by the same model code. The drop is paired, item by item, and
corrected for chance: with k choices, an accuracy a counts as (a - 1/k) / (1 - 1/k).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from luthier.generation.local import Generator

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Probe:
    """One multiple-choice item; `gold` is the index of the right choice."""

    id: str
    area: str
    query: str
    choices: tuple[str, ...]
    gold: int


def general_probes() -> tuple[Probe, ...]:
    """The probes that come with the project."""
    text = (resources.files("luthier.evaluation") / "probes" / "general.jsonl").read_text("utf-8")
    return tuple(
        Probe(r["id"], r["area"], r["query"], tuple(r["choices"]), r["gold"])
        for r in map(json.loads, text.splitlines())
        if r
    )


def answer_probes(
    generator: Generator,
    probes: Sequence[Probe],
    progress: Callable[[int], None] | None = None,
) -> list[bool]:
    """For each probe, whether the right choice has the highest likelihood per byte.

    Choices are scored as plain text that goes on from the query, without any chat template, so
    that what is measured is the model and not how it was taught to answer.
    """
    tokenizer = generator.tokenizer

    def ids(text: str) -> list[int]:
        return [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]

    start = [tokenizer.bos_token_id] if _starts_with_bos(tokenizer) else []
    prompts = [start + ids(probe.query) for probe in probes]
    choices = [[ids(choice) for choice in probe.choices] for probe in probes]
    scores, _ = generator.score(prompts, choices, progress)
    right = []
    for probe, row in zip(probes, scores, strict=True):
        per_byte = [s / len(c.encode()) for s, c in zip(row, probe.choices, strict=True)]
        right.append(per_byte.index(max(per_byte)) == probe.gold)
    return right


def drop(
    probes: Sequence[Probe], before: Sequence[bool], after: Sequence[bool], *, seed: int
) -> dict[str, Any]:
    """What was lost: verdict.json's `forgetting`.

    Returns:
        {"drop": chance-corrected accuracy before minus after, "interval": its 95 % paired
        bootstrap interval, "probes": {area: {"before", "after", "n"}}} with accuracies uncorrected.
    """
    chance = np.array([1 / len(probe.choices) for probe in probes])
    change = (np.array(before, float) - np.array(after, float)) / (1 - chance)
    draws = np.random.default_rng(seed).integers(len(change), size=(_RESAMPLES, len(change)))
    low, high = np.percentile(change[draws].mean(axis=1), [2.5, 97.5])
    areas: dict[str, dict[str, Any]] = {}
    for area in sorted({probe.area for probe in probes}):
        rows = [i for i, probe in enumerate(probes) if probe.area == area]
        areas[area] = {
            "before": round(float(np.mean([before[i] for i in rows])), 4),
            "after": round(float(np.mean([after[i] for i in rows])), 4),
            "n": len(rows),
        }
    return {
        "drop": round(float(change.mean()), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "probes": areas,
    }


def _starts_with_bos(tokenizer: Any) -> bool:
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
