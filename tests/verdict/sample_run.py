"""A run folder as a finished comparison leaves it, for tests of what reads run folders.

The answers are drawn at random with a fixed seed, and every number of verdict.json that can be
counted (scores, intervals, differences, invalid answers) is counted from them.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

LABELS = ("abbreviation", "description", "entity", "human", "location", "number")
QUESTIONS = {
    "abbreviation": ("What does {} stand for?", "What is the full form of {}?"),
    "description": ("What is {}?", "How does {} work?", "Why do people say {}?"),
    "entity": ("What colour is {}?", "What is the best known kind of {}?"),
    "human": ("Who invented {}?", "Who was the first to write about {}?"),
    "location": ("Where was {} first seen?", "What country is known for {}?"),
    "number": ("How many people use {}?", "When was {} first sold?", "How far is {} from here?"),
}
SUBJECTS = (
    "the telephone", "a quasar", "CNN", "the Panama Canal", "a sonnet", "the Rosetta stone",
    "NASA", "the marathon", "caffeine", "a violin", "the tide", "origami", "the zip fastener",
    "penicillin", "the compass", "a haiku", "the yo-yo", "HTML", "a solar eclipse", "porcelain",
    "the abacus", "jazz", "the metric system", "a tsunami", "the Nobel Prize", "saffron",
)  # fmt: skip
#: name -> (title, chance of a right answer, chance of an invalid one, costs)
ARMS: dict[str, tuple[str, float, float, dict[str, Any]]] = {
    "majority": ("Always the most frequent label", 0.0, 0.0, {
        "train_seconds": 0.0, "train_tokens_per_second": None, "trained_parameters": 0,
        "total_parameters": 0, "seconds_per_answer": 0.0, "prompt_tokens_per_answer": 0,
        "peak_memory_bytes": None}),
    "zero-shot": ("The instruction alone", 0.36, 0.31, {
        "train_seconds": 0.0, "train_tokens_per_second": None, "trained_parameters": 0,
        "total_parameters": 134_515_008, "seconds_per_answer": 0.21,
        "prompt_tokens_per_answer": 48.2, "peak_memory_bytes": 610_000_000}),
    "few-shot": ("Examples in the prompt", 0.52, 0.08, {
        "train_seconds": 31.0, "train_tokens_per_second": None, "trained_parameters": 0,
        "total_parameters": 134_515_008, "seconds_per_answer": 0.74,
        "prompt_tokens_per_answer": 231.4, "peak_memory_bytes": 830_000_000}),
    "encoder": ("Frozen encoder and logistic regression", 0.81, 0.0, {
        "train_seconds": 5.8, "train_tokens_per_second": None, "trained_parameters": 2_310,
        "total_parameters": 22_715_526, "seconds_per_answer": 0.006,
        "prompt_tokens_per_answer": 11.0, "peak_memory_bytes": 412_000_000}),
    "lora": ("LoRA on all linear layers", 0.90, 0.0, {
        "train_seconds": 94.2, "train_tokens_per_second": 631.0, "trained_parameters": 4_884_480,
        "total_parameters": 139_399_488, "seconds_per_answer": 0.104,
        "prompt_tokens_per_answer": 48.2, "peak_memory_bytes": 2_500_000_000}),
}  # fmt: skip


def wilson(right: float, n: int, z: float = 1.959964) -> list[float]:
    """Wilson's interval of a share."""
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [max(0.0, middle - half), min(1.0, middle + half)]


def _question(random_: random.Random, label: str, used: set[str]) -> str:
    while True:
        asked = random_.choice(QUESTIONS[label]).format(random_.choice(SUBJECTS))
        if asked in used:
            asked = f"{asked[:-1]}, {random_.choice(('in 19', 'since 18'))}{len(used) % 100:02d}?"
        if asked not in used:
            used.add(asked)
            return asked


def _rows(random_: random.Random, split: str, n: int, used: set[str]) -> list[dict[str, Any]]:
    weights = (2, 22, 24, 23, 16, 13)
    rows = []
    for index in range(n):
        label = random_.choices(LABELS, weights)[0]
        asked = _question(random_, label, used)
        rows.append(
            {
                "id": f"{split}-{index}",
                "messages": [{"role": "user", "content": asked}],
                "input": asked,
                "output": label,
                "group": None,
                "source": f"data/{split}.csv row {index + 2}",
            }
        )
    return rows


def _predictions(
    random_: random.Random, name: str, rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    _, right, invalid, costs = ARMS[name]
    found = []
    for row in rows:
        draw = random_.random()
        if name == "majority":
            said = "entity"
        elif draw < right:
            said = row["output"]
        elif draw > 1 - invalid:
            said = f"The question is about {row['input'].split()[-1].rstrip('?')} and its history."
        else:
            said = random_.choice([label for label in LABELS if label != row["output"]])
        found.append(
            {
                "id": row["id"],
                "input": row["input"],
                "reference": row["output"],
                "prediction": said,
                "score": 1.0 if said == row["output"] else 0.0,
                "seconds": costs["seconds_per_answer"] * random_.uniform(0.8, 1.2),
                "prompt_tokens": round(costs["prompt_tokens_per_answer"]),
                "completion_tokens": max(1, len(said) // 4),
            }
        )
    return found


def _arm_result(
    name: str, scores: Sequence[float], said: Sequence[str], best: str, best_scores: Sequence[float]
) -> dict[str, Any]:
    n = len(scores)
    result: dict[str, Any] = {
        "name": name,
        "score": sum(scores) / n,
        "interval": wilson(sum(scores), n),
        "invalid_rate": sum(answer not in LABELS for answer in said) / n,
        "versus_best": None,
        **ARMS[name][3],
        "forgetting": None,
        "metrics": {"macro_f1": sum(scores) / n * 0.97},
        "failed": None,
        "floor": name == "majority",
    }
    if name == "lora":
        result["forgetting"] = {
            "drop": 0.012,
            "interval": [-0.021, 0.045],
            "probes": {
                "everyday knowledge": {"before": 0.62, "after": 0.61, "n": 100},
                "arithmetic": {"before": 0.31, "after": 0.30, "n": 100},
                "instructions": {"before": 0.48, "after": 0.47, "n": 60},
            },
        }
    if name != best:
        gaps = [mine - theirs for mine, theirs in zip(scores, best_scores, strict=True)]
        gap = sum(gaps) / n
        error = math.sqrt(sum((value - gap) ** 2 for value in gaps) / n / n)
        worse, better = gaps.count(-1.0), gaps.count(1.0)
        tail = sum(math.comb(worse + better, k) for k in range(min(worse, better) + 1))
        p = min(1.0, 2 * tail / 2 ** (worse + better))
        result["versus_best"] = {
            "arm": best,
            "difference": gap,
            "interval": [gap - 1.96 * error, gap + 1.96 * error],
            "p": p,
            "p_adjusted": min(1.0, p * (len(ARMS) - 1)),
        }
    return result


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_sample_run(folder: Path, *, n_test: int = 200, decision: str = "deploy") -> Path:
    """Write a run folder with five arms that answered and one that failed; give it back.

    Args:
        folder: made if it is not there.
        n_test: rows of the test.
        decision: deploy, undecided or none.
    """
    random_ = random.Random(7)
    used: set[str] = set()
    splits = {
        "train": _rows(random_, "train", 500, used),
        "validation": _rows(random_, "validation", 100, used),
        "test": _rows(random_, "test", n_test, used),
    }
    for name, rows in splits.items():
        _write_rows(folder / "data" / f"{name}.jsonl", rows)
    answers = {name: _predictions(random_, name, splits["test"]) for name in ARMS}
    scores = {name: [row["score"] for row in rows] for name, rows in answers.items()}
    results = [
        _arm_result(
            name, scores[name], [row["prediction"] for row in answers[name]], "lora", scores["lora"]
        )
        for name in ARMS
    ]
    failure = "out of memory: full fine-tuning needs about 31 GB here, and 22 GB are free"
    results.append({"name": "full", "score": None, "interval": None, "failed": failure})
    for name, rows in answers.items():
        _write_rows(folder / "arms" / name / "predictions.jsonl", rows)
        _write(folder / "arms" / name / "arm.json", _record(random_, name))
    _write(
        folder / "arms" / "full" / "arm.json",
        {"name": "full", "title": "Full fine-tuning", "finished": True, "failed": failure},
    )
    _write(folder / "verdict.json", _verdict(decision, n_test, results))
    _write(folder / "manifest.json", _manifest(splits))
    _write(folder / "lint.json", _lint())
    task = {
        "name": "trec",
        "goal": "Route a question to the team that can answer its kind.",
        "kind": "classification",
        "instruction": "Name the kind of answer the question asks for, in one word.",
        "labels": list(LABELS),
        "data": {"train": "data/train.csv", "input": "{{ question }}", "output": "{{ kind }}"},
        "success": {"at_least": 0.8, "margin": 0.02, "max_forgetting": 0.05},
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return folder


def _verdict(decision: str, n_test: int, results: list[dict[str, Any]]) -> dict[str, Any]:
    by_name = {result["name"]: result for result in results}
    lora, encoder = by_name["lora"]["score"], by_name["encoder"]["score"]
    headline, recommendation, reasons = {
        "deploy": (
            f"Deploy lora: {lora * 100:.1f} % accuracy against {encoder * 100:.1f} % for encoder "
            "(the runner-up). It costs 0.1 s an answer and 94 s of training.",
            "lora",
            [
                "lora - encoder: +8.5 points of accuracy (95 % interval +3.2 to +13.8, "
                "p = 0.0019).",
                "Against each of encoder, few-shot and zero-shot it is shown not to be worse by "
                "more than 2.0 points.",
                "It lost 1.2 points of general ability; the task allows 5.",
            ],
        ),
        "undecided": (
            "Undecided between lora and encoder: label about 740 more test examples.",
            "lora",
            ["lora leads by 1.5 points (95 % interval -3.1 to +6.1).", "Use lora meanwhile."],
        ),
        "none": (
            "None of the arms is good enough: the best is sure to score below 95 %.",
            None,
            ["The best arm, lora, does not reach the wanted score."],
        ),
    }[decision]
    return {
        "task": "trec",
        "kind": "classification",
        "metric": "accuracy",
        "n_test": n_test,
        "seed": 0,
        "decision": decision,
        "recommendation": recommendation,
        "headline": headline,
        "reasons": reasons,
        "minimum_detectable_effect": 0.0912,
        "statistics": {
            "level": 0.95,
            "method": "Wilson and Newcombe intervals, McNemar's exact test",
            "signature": "accuracy, exact match of the label",
        },
        "warnings": [],
        "arms": results,
    }


def _record(random_: random.Random, name: str) -> dict[str, Any]:
    title, _, _, costs = ARMS[name]
    record: dict[str, Any] = {
        "name": name,
        "title": title,
        "finished": True,
        "failed": None,
        "settings": {"instruction": "Name the kind of answer the question asks for, in one word."},
        "choices": [],
        "costs": costs,
        "changes_weights": name == "lora",
        "notes": [],
    }
    if name == "few-shot":
        record["choices"] = [
            {
                "what": "examples in the prompt",
                "options": [
                    {"value": 2, "score": 0.41},
                    {"value": 6, "score": 0.52},
                    {"value": 12, "score": 0.51},
                ],
                "chosen": 6,
                "why": "The highest score; 12 examples are no better and cost more tokens.",
            }
        ]
    if name == "lora":
        record["settings"] |= {
            "epochs": 3, "batch_size": 8, "rank": 16, "alpha": 32, "loss_on": "completion",
            "precision": "bfloat16", "target": {"modules": ["q_proj", "v_proj"]},
        }  # fmt: skip
        record["choices"] = [
            {
                "what": "learning_rate",
                "options": [
                    {"value": 0.0005, "score": 0.74},
                    {"value": 0.001, "score": 0.89},
                    {"value": 0.002, "score": 0.87},
                ],
                "chosen": 0.001,
                "why": "The highest score on validation.",
            }
        ]
        record["notes"] = ["Stopped after 3 epochs: validation loss no longer fell."]
        record["curve"] = [
            [step, 2.9 * math.exp(-step / 40) + 0.12 + random_.uniform(0, 0.25)]
            for step in range(1, 190)
        ]
    return record


def _manifest(splits: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "luthier": "0.1.0",
        "created": "2025-11-23T09:30:00+00:00",
        "task": "trec",
        "task_hash": "4be0" * 16,
        "seed": 0,
        "command": "luthier run task.yaml --seed 0 --out runs/trec",
        "splits": {
            name: {"rows": len(rows), "hash": f"{index}7c4" * 16}
            for index, (name, rows) in enumerate(splits.items())
        },
        "labels": list(LABELS),
        "notes": ["Validation was cut from train: 100 of 600 rows, label shares kept."],
        "machine": {
            "cores": 2,
            "memory_bytes": 25_769_803_776,
            "gpus": [],
            "platform": "Linux-6.1-x86_64",
        },
        "versions": {"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0"},
        "model": {"name": "smollm2-135m-instruct", "path": "x", "parameters": 134_515_008},
        "arms": [{"name": name, "why": f"Why {name} was run."} for name in ("lora", "encoder")],
        "left_out": [{"name": "retrieval", "why": "the task names no documents"}],
    }


def _lint() -> dict[str, Any]:
    return {
        "ok": True,
        "findings": [
            {
                "lint": "near-duplicates",
                "severity": "warning",
                "count": 14,
                "rows": [f"train-{index}" for index in range(14)],
                "message": "14 rows of train say nearly the same as another row.",
                "fix": "Keep one of each; `luthier check --json` lists the pairs.",
            },
            {
                "lint": "rare-label",
                "severity": "note",
                "count": 1,
                "rows": ["abbreviation"],
                "message": "The label abbreviation has only 9 training rows.",
                "fix": "Label about 20 more, or merge it with description.",
            },
        ],
        "tokens": {
            "train": {"rows": 500, "total": 30112, "median": 59, "longest": 97},
            "validation": {"rows": 100, "total": 6011, "median": 60, "longest": 88},
            "test": {"rows": 200, "total": 12033, "median": 60, "longest": 91},
        },
        "estimate": {"seconds": 260.0, "peak_memory_bytes": 2_700_000_000},
    }
