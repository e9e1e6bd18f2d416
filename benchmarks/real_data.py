"""The main job on real data: one comparison for each kind of task, and what it came to.

    python benchmarks/real_data.py DATA [--only trec,sst2] [--out runs/real-data]

DATA is a folder with the public data sets trec, sst2, wnut17, e2e, multi30k, squad and
amazon_fashion (see benchmarks/RESULTS.md for where they come from). Each becomes a small task with
a seeded sample; each must end in a verdict with no failed arm. Prints one table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from trec_task import KINDS as TREC

import luthier as lu
from luthier.display import Display


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def trec(data: Path, folder: Path) -> dict[str, Any]:
    """500 training and 200 test questions, labels spelled as words."""
    return {
        "kind": "classification",
        "goal": "Route a question to the team that can answer its kind.",
        "instruction": "Name the kind of answer the question asks for, in one word: "
        f"{', '.join(list(TREC.values())[:-1])} or {list(TREC.values())[-1]}.",
        "labels": list(TREC.values()),
        "data": {
            "train": str(data / "trec" / "train.csv"),
            "test": str(data / "trec" / "test.csv"),
            "input": "{{ question }}",
            "output": "{{ " + json.dumps(TREC) + "[kind] }}",
            "limit": {"train": 500, "test": 200},
        },
    }


def sst2(data: Path, folder: Path) -> dict[str, Any]:
    """Sentiment of a sentence."""
    return {
        "kind": "classification",
        "instruction": "Say whether the sentence about a film is positive or negative, in one "
        "word.",
        "data": {
            "train": str(data / "sst2" / "train.jsonl"),
            "validation": str(data / "sst2" / "dev.jsonl"),
            "test": str(data / "sst2" / "test.jsonl"),
            "input": "{{ sentence }}",
            "output": "{{ sentiment }}",
            "limit": {"train": 300, "validation": 80, "test": 150},
        },
    }


def conll(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    tokens: list[str] = []
    tags: list[str] = []
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        if line.strip():
            # a line of the development file holds a byte order mark and nothing else
            token, _, tag = line.strip().rpartition("\t")
            if token:
                tokens.append(token)
                tags.append(tag)
        elif tokens:
            rows.append({"tokens": tokens, "tags": tags})
            tokens, tags = [], []
    return rows


def wnut17(data: Path, folder: Path) -> dict[str, Any]:
    """Named entities in social text."""
    source = data / "wnut17"
    return {
        "kind": "ner",
        "instruction": "List the named entities in the text, one a line, as `type: name`. Types: "
        "person, location, corporation, group, product, creative-work. Write none if there are "
        "none.",
        "data": {
            "train": write_rows(folder / "train.jsonl", conll(source / "wnut17train.conll")),
            "validation": write_rows(folder / "dev.jsonl", conll(source / "emerging.dev.conll")),
            "test": write_rows(folder / "test.jsonl", conll(source / "emerging.test.annotated")),
            "input": "{{ tokens | join(' ') }}",
            "output": "{{ tokens | entities(tags) }}",
            "limit": {"train": 200, "validation": 40, "test": 80},
        },
    }


def e2e(data: Path, folder: Path) -> dict[str, Any]:
    """Restaurant attributes to a sentence."""
    return {
        "kind": "generation",
        "instruction": "Write one sentence about the restaurant that says what the attributes say.",
        "data": {
            "train": str(data / "e2e" / "devset.csv"),
            "test": str(data / "e2e" / "testset_w_refs.csv"),
            "input": "{{ mr }}",
            "output": "{{ ref }}",
            "group": "mr",
            "limit": {"train": 150, "validation": 30, "test": 80},
        },
    }


def multi30k(data: Path, folder: Path) -> dict[str, Any]:
    """English captions into German."""
    source = data / "multi30k"

    def pairs(name: str) -> str:
        lines = [
            (source / f"{name}.{language}").read_text(encoding="utf-8").splitlines()
            for language in ("en", "de")
        ]
        rows = [{"en": en, "de": de} for en, de in zip(*lines, strict=True)]
        return write_rows(folder / f"{name}.jsonl", rows)

    return {
        "kind": "translation",
        "instruction": "Translate the English sentence into German.",
        "data": {
            "train": pairs("train"),
            "validation": pairs("validation"),
            "test": pairs("test"),
            "input": "{{ en }}",
            "output": "{{ de }}",
            "limit": {"train": 150, "validation": 30, "test": 80},
        },
    }


def squad(data: Path, folder: Path) -> dict[str, Any]:
    """Questions about a paragraph that is in the input."""
    articles = json.loads((data / "squad" / "dev-v1.1.rebuilt.json").read_text("utf-8"))["data"]
    rows = [
        {
            "paragraph": f"{article['title']} {number}",
            "context": paragraph["context"],
            "question": question["question"],
            "answer": question["answers"][0]["text"],
        }
        for article in articles
        for number, paragraph in enumerate(article["paragraphs"])
        for question in paragraph["qas"]
    ]
    return {
        "kind": "qa",
        "instruction": "Answer the question with words from the text, as briefly as possible.",
        "data": {
            "train": write_rows(folder / "rows.jsonl", rows),
            "input": "{{ context }}\n\nQuestion: {{ question }}",
            "output": "{{ answer }}",
            "group": "paragraph",
            "limit": {"train": 100, "validation": 30, "test": 60},
        },
    }


def amazon_fashion(data: Path, folder: Path) -> dict[str, Any]:
    """A review to its headline; repeated reviews kept once."""
    seen: set[str] = set()
    rows = []
    for line in (data / "amazon_fashion" / "reviews.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        text, summary = row.get("reviewText", "").strip(), row.get("summary", "").strip()
        if text and summary and text not in seen:
            seen.add(text)
            rows.append({"review": text, "summary": summary})
    return {
        "kind": "summarization",
        "instruction": "Write the headline of the review, in a few words.",
        "data": {
            "train": write_rows(folder / "rows.jsonl", rows),
            "input": "{{ review }}",
            "output": "{{ summary }}",
            "limit": {"train": 150, "validation": 30, "test": 80},
        },
    }


TASKS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    function.__name__: function
    for function in (trec, sst2, wnut17, e2e, multi30k, squad, amazon_fashion)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--out", type=Path, default=Path("runs/real-data"))
    parser.add_argument("--minutes", type=float, default=12)
    chosen = parser.parse_args()
    failed = False
    for name in chosen.only.split(","):
        folder = chosen.out / name
        values = TASKS[name](chosen.data.absolute(), folder.absolute() / "task")
        values = {"name": name, **values, "budget": {"minutes": chosen.minutes}}
        path = folder / "task" / "task.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        started = time.perf_counter()
        run = lu.run(path, out=folder / "run", reporter=Display())
        minutes = (time.perf_counter() - started) / 60
        verdict = run.verdict
        print(f"\n## {name} ({verdict['kind']}, n = {verdict['n_test']}), {minutes:.1f} min")
        print(verdict["headline"])
        print(
            f"| arm | {verdict['metric']} | 95 % | invalid | train s | s/answer | peak GB | lost |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for arm in verdict["arms"]:
            if arm["failed"]:
                failed = True
                print(f"| {arm['name']} | failed: {arm['failed']} |")
                continue
            low, high = arm["interval"]
            lost = arm["forgetting"]["drop"] if arm["forgetting"] else None
            print(
                f"| {arm['name']} | {arm['score']:.3f} | {low:.3f} to {high:.3f} "
                f"| {arm['invalid_rate']:.2f} | {arm['train_seconds']:.0f} "
                f"| {arm['seconds_per_answer']:.3f} "
                f"| {arm['peak_memory_bytes'] / 1e9:.2f} | {lost} |",
                flush=True,
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
