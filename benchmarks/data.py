"""Data at scale, and near-duplicates: what they take and what they find.

    python benchmarks/data.py near DATA            recall and precision on planted near-duplicates
    python benchmarks/data.py noise DATA           flipped labels among the rows most in doubt
    python benchmarks/data.py scale [--rows 10000,100000,1000000] [--words 22,160]
    python benchmarks/data.py memory [--rows 100000,1000000]   of reading, converting, splitting

`DATA` is a folder with the public data sets that RESULTS.md names. The rows of `scale` are
generated: words drawn by Zipf's law, four labels, one row in fifty an earlier one with a word in
ten changed, one in a hundred a repeat. Each step runs in a process of its own, whose peak memory is
measured.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

STEPS = ("read", "convert", "split", "check")
#: Work whose memory shall not grow with the rows: the verb and its words. IN and JSONL are the rows
#: as csv and as jsonl, OUT is a new place.
WORK = {
    "read": (),
    "csv to jsonl": ("convert", "IN", "--to", "jsonl", "--out", "OUT.jsonl"),
    "csv to parquet": ("convert", "IN", "--to", "parquet", "--out", "OUT.parquet"),
    "jsonl to openai messages": (
        *("convert", "JSONL", "--to", "openai", "--map", "prompt=text"),
        *("--map", "completion=label", "--out", "OUT.jsonl"),
    ),
    "split": ("split", "IN", "--out", "OUT", "--input", "text"),
    "split, stratified and grouped": (
        *("split", "IN", "--out", "OUT", "--input", "text", "--stratify", "label"),
        *("--group", "customer"),
    ),
    "split by time": ("split", "IN", "--out", "OUT", "--input", "text", "--time", "customer"),
    "split with a lock": ("split", "IN", "--out", "OUT", "--input", "text", "--lock", "OUT.lock"),
    "split into 5 folds": ("split", "IN", "--out", "OUT", "--input", "text", "--folds", "5"),
    "mix with itself": ("mix", "a=IN", "b=JSONL", "--cap", "1000", "--out", "OUT.jsonl"),
    "templates": (
        *("templates", "build", "IN", "--templates", "text-label", "--out", "OUT.jsonl"),
    ),
}


def generated(rows: int, words: int, seed: int = 0) -> Iterator[dict[str, str]]:
    chance = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [
        "".join(chance.choice(letters) for _ in range(chance.randint(2, 9))) for _ in range(20_000)
    ]
    odds = list(itertools.accumulate(1 / (place + 3) for place in range(len(vocabulary))))
    labels = ("billing", "delivery", "returns", "other")
    past: list[list[str]] = []
    for number in range(rows):
        if past and number % 100 == 99:
            text = chance.choice(past)
        elif past and number % 50 == 49:
            text = list(chance.choice(past))
            for start in range(0, len(text), 10):
                text[min(start + chance.randrange(10), len(text) - 1)] = chance.choice(vocabulary)
        else:
            text = chance.choices(
                vocabulary, cum_weights=odds, k=words + chance.randint(-words // 3, words // 3)
            )
        if number % 1000 < 3:
            past = [*past[-500:], text]
        label = labels[sum(map(len, text)) % 4]
        yield {"customer": str(chance.randrange(rows)), "text": " ".join(text), "label": label}


def write(path: Path, rows: int, words: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, ["customer", "text", "label"])
            writer.writeheader()
            writer.writerows(generated(rows, words))
        else:
            for row in generated(rows, words):
                file.write(json.dumps(row) + "\n")


def step(name: str, path: Path, out: Path) -> str:
    """Do one step; a sentence on what came of it."""
    from luthier.data.reading import stream_rows

    if name == "read":
        return f"{sum(1 for _ in stream_rows(path.name, path.parent)):,} rows"
    from luthier.cli import app

    if name in WORK:
        said = {"IN": str(path), "JSONL": str(path.with_suffix(".jsonl"))}
        words = []
        for word in WORK[name]:
            for short, whole in said.items():
                word = whole if word == short else word.replace(f"={short}", f"={whole}")
            words.append(word.replace("OUT", str(out / "OUT")))
        app(words, standalone_mode=False)
        return "done"
    if name == "convert":
        app(
            ["convert", str(path), "--to", "prompt_completion", "--map", "prompt=text",
             "--map", "completion=label", "--out", str(out / "converted.jsonl")],
            standalone_mode=False,
        )  # fmt: skip
        return "written"
    if name == "split":
        app(
            ["split", str(path), "--out", str(out / "parts"), "--test", "0.1", "--validation",
             "0.05", "--input", "text", "--stratify", "label"],
            standalone_mode=False,
        )  # fmt: skip
        return "written"
    task = out / "task.yaml"
    task.write_text(
        f"name: scale\nkind: classification\ninstruction: Name the topic.\ndata:\n"
        f"  train: {path}\n  input: '{{{{ text }}}}'\n  output: '{{{{ label }}}}'\n"
    )
    app(["check", str(task)], standalone_mode=False)
    return "checked"


def scale(sizes: list[int], lengths: list[int], steps: list[str]) -> None:
    print("| rows | words a row | file | step | seconds | peak memory |\n|---|---|---|---|---|---|")
    for words, rows in itertools.product(lengths, sizes):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = folder / ("rows.csv" if words < 60 else "rows.jsonl")
            write(path, rows, words)
            for one in steps:
                environment = {**os.environ}
                begun = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, __file__, "step", one, str(path), str(folder)],
                    env=environment, capture_output=True, text=True, check=False,
                )  # fmt: skip
                seconds = time.perf_counter() - begun
                last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "{}"
                if done.returncode or not last.startswith("{"):
                    print(done.stdout[-3000:], done.stderr[-3000:], file=sys.stderr)
                    print(f"| {rows:,} | {words} | | {one} | failed | |", flush=True)
                    continue
                peak = json.loads(last)["peak"]
                size = f"{path.stat().st_size / 1e6:.0f} MB"
                print(
                    f"| {rows:,} | {words} | {size} | {one} | {seconds:.1f} "
                    f"| {peak / 1e9:.2f} GB |",
                    flush=True,
                )
                (folder / f"{one}.txt").write_text(done.stdout + done.stderr)
                if os.environ.get("SHOW"):
                    print(done.stdout, done.stderr, file=sys.stderr)


def memory(sizes: list[int]) -> None:
    """Peak memory of each piece of work by the rows, and what one more row takes."""
    heads = "".join(f" {rows:,} rows |" for rows in sizes)
    print(f"| work |{heads} bytes a row more |\n|---|{'---|' * (len(sizes) + 1)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows in sizes:
            for ending in ("csv", "jsonl"):
                write(folder / f"{rows}.{ending}", rows, 22)
        for one in WORK:
            peaks = []
            for rows in sizes:
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    done = subprocess.run(
                        [sys.executable, __file__, "step", one, str(folder / f"{rows}.csv"), out],
                        capture_output=True, text=True, check=False,
                    )  # fmt: skip
                    if done.returncode:
                        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
                    peaks.append(json.loads(done.stdout.strip().splitlines()[-1])["peak"])
            more = (peaks[-1] - peaks[0]) / max(1, sizes[-1] - sizes[0])
            shown = "".join(f" {peak / 1e6:,.0f} MB |" for peak in peaks)
            print(f"| {one} |{shown} {more:.0f} |", flush=True)


def texts(data: Path) -> dict[str, list[str]]:
    """Real texts, each once."""
    squad = json.loads((data / "squad/dev-v1.1.rebuilt.json").read_text("utf-8"))["data"]
    paragraphs = [p for article in squad for p in article["paragraphs"]]
    read = {
        "sst2": [
            json.loads(line)["sentence"]
            for line in (data / "sst2/train.jsonl").read_text("utf-8").splitlines()
        ],
        "multi30k en": (data / "multi30k/train.en").read_text("utf-8").splitlines(),
        "multi30k de": (data / "multi30k/train.de").read_text("utf-8").splitlines(),
        "trec": _column(data / "trec/train.csv", "question"),
        "squad questions": [q["question"] for p in paragraphs for q in p["qas"]],
        "squad paragraphs": [p["context"] for p in paragraphs],
        "alpaca": [
            f"{row['instruction']} {row['input']}"
            for row in json.loads((data / "instructions/alpaca_5000.json").read_text("utf-8"))
        ],
        "e2e": _column(data / "e2e/devset.csv", "ref"),
    }
    return {name: list(dict.fromkeys(found)) for name, found in read.items()}


def _column(path: Path, name: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def changed(text: str, vocabulary: list[str], chance: random.Random) -> str:
    """The text with one word of each ten begun put in another's place."""
    words = text.split()
    places = [place for place, word in enumerate(words) if any(c.isalnum() for c in word)]
    for place in chance.sample(places, -(-len(places) // 10)):
        before = words[place].lower().strip(".,!?'\"")
        while (new := chance.choice(vocabulary)).lower().strip(".,!?'\"") == before:
            pass
        words[place] = new
    return " ".join(words)


def brute(left: str, right: str) -> bool:
    """The definition of a near-duplicate, computed by itself on two texts."""
    from luthier.data.near_duplicates import NEAR
    from luthier.data.words import folded_words

    a, b = folded_words(left).split(), folded_words(right).split()
    line = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        last, line[0] = line[0], i
        for j, other in enumerate(b, 1):
            last, line[j] = line[j], min(line[j] + 1, line[j - 1] + 1, last + (word != other))
    longest = max(len(a), len(b))
    return longest >= NEAR.least_words and line[-1] <= NEAR.allowed(longest)


def near(data: Path) -> None:
    """Plant near-duplicates of training texts among the test texts, and count what is found."""
    from luthier.data.near_duplicates import find_twins

    print(
        "| texts | train | test | planted | recall | found besides | of them near by the "
        "definition | precision | seconds |\n|---|---|---|---|---|---|---|---|---|"
    )
    sums = [0, 0, 0, 0]
    for name, found in texts(data).items():
        chance = random.Random(1)
        chance.shuffle(found)
        half = len(found) // 2
        train, test = found[:half], found[half:]
        vocabulary = [w for text in found for w in text.split() if any(c.isalnum() for c in w)]
        long = [text for text in train if len(text.split()) >= 8]
        planted = [changed(t, vocabulary, chance) for t in chance.sample(long, 300)]
        begun = time.perf_counter()
        twins = find_twins([*train, *test, *planted], sides=(len(train), len(test) + len(planted)))
        seconds = time.perf_counter() - begun
        hits = twins.across[1, 0]
        edge = len(train) + len(test)
        right = sum(row >= edge for row in hits)
        besides = [(row, twin) for row, (twin, _) in hits.items() if row < edge]
        real = sum(
            brute(found[row], found[twin])
            for row, (twin, same) in hits.items()
            if row < edge and not same
        ) + sum(hits[row][1] for row, _ in besides)
        precision = (right + real) / max(1, len(hits))
        print(
            f"| {name} | {len(train):,} | {len(test):,} | {len(planted)} "
            f"| {right / len(planted):.3f} | {len(besides)} | {real} | {precision:.3f} "
            f"| {seconds:.2f} |",
            flush=True,
        )
        for place, value in enumerate((right, len(planted), right + real, len(hits))):
            sums[place] += value
    print(
        f"\nAll: recall {sums[0] / sums[1]:.3f}, precision {sums[2] / sums[3]:.3f} "
        f"({sums[0]} of {sums[1]} planted found)."
    )


#: Data sets with labels: file, column of the text, column of the label.
LABELLED = {
    "sst2": ("sst2/train.jsonl", "sentence", "sentiment"),
    "trec": ("trec/train.csv", "question", "kind"),
    "banking77": ("banking77/train.csv", "text", "category"),
}
#: The share of labels that is flipped, and the share of rows looked at, the worst first.
FLIPPED, WORST = 0.10, 0.15


def noise(data: Path) -> None:
    """Flip labels, and count how many of them the `label_noise` lint ranks among the worst."""
    import numpy as np

    from luthier.data.examples import Splits
    from luthier.data.linting import LintContext
    from luthier.data.lints.label_noise import suspicion
    from luthier.data.reading import read_rows
    from luthier.data.recipes import make_examples
    from luthier.task import Task

    print(
        f"| data | rows | seed | flipped | of them in the worst {WORST:.0%} | named by confident "
        "learning | of them flipped | classifier right | seconds |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for name, (file, text, label) in LABELLED.items():
        for seed in (0, 1, 2):
            task = Task.from_dict(
                {"name": name, "kind": "classification",
                 "data": {"train": file, "input": f"{{{{ {text} }}}}",
                          "output": f"{{{{ {label} }}}}"}},
                path=data / "task.yaml",
            )  # fmt: skip
            train = make_examples(read_rows(file, data), task.data)
            labels = tuple(sorted({example.output for example in train}))
            chance = np.random.default_rng(seed)
            flipped = chance.choice(len(train), round(FLIPPED * len(train)), replace=False)
            for row in flipped.tolist():
                others = [one for one in labels if one != train[row].output]
                train[row] = replace(train[row], output=str(chance.choice(others)))
            begun = time.perf_counter()
            found = suspicion(LintContext(task, Splits(tuple(train), (), ()), labels))
            seconds = time.perf_counter() - begun
            if found is None:
                raise SystemExit(f"{name}: nothing can be said of its labels")
            wrong = {train[row].id for row in flipped.tolist()}
            worst = np.argsort(found.quality, kind="stable")[: round(WORST * len(train))]
            caught = sum(found.examples[row].id in wrong for row in worst.tolist())
            right = sum(found.examples[row].id in wrong for row in found.doubted)
            print(
                f"| {name} | {len(train):,} | {seed} | {len(wrong):,} | {caught / len(wrong):.1%} "
                f"| {len(found.doubted):,} | {right / max(1, len(found.doubted)):.1%} "
                f"| {found.accuracy:.1%} | {seconds:.1f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("near").add_argument("data", type=Path)
    commands.add_parser("noise").add_argument("data", type=Path)
    scaled = commands.add_parser("scale")
    scaled.add_argument("--rows", default="10000,100000,1000000")
    scaled.add_argument("--words", default="22,160")
    scaled.add_argument("--steps", default=",".join(STEPS))
    remembered = commands.add_parser("memory")
    remembered.add_argument("--rows", default="100000,1000000")
    stepped = commands.add_parser("step")
    stepped.add_argument("name", choices=[*STEPS, *WORK])
    stepped.add_argument("path", type=Path)
    stepped.add_argument("out", type=Path)
    given = parser.parse_args()
    if given.command == "near":
        near(given.data)
    elif given.command == "noise":
        noise(given.data.absolute())
    elif given.command == "memory":
        memory([int(rows) for rows in given.rows.split(",")])
    elif given.command == "scale":
        numbers = [[int(n) for n in text.split(",")] for text in (given.rows, given.words)]
        scale(*numbers, given.steps.split(","))
    else:
        said = step(given.name, given.path, given.out)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"said": said, "peak": peak}))


if __name__ == "__main__":
    main()
