"""What remedies for forgetting cost and save: one task, six ways of tuning, one table.

    python benchmarks/forgetting.py DATA [--only full,lora] [--out runs/forgetting]
        [--rows 300] [--test 150] [--epochs 2] [--ratio 0.2] [--l2-sp 300]

DATA is a folder with the public data set `trec` (train.csv and test.csv with the columns question
and kind). The embedded model is tuned to it with LoRA, fully, and fully with each remedy; each is
scored on the same test and asked the forgetting probes that the untuned model was asked. Every
finished row is kept in OUT (one JSON file each), an interrupted training is continued, and the
table of all rows that are there is printed and appended to OUT/forgetting.md.

The rows differ in the remedy alone: data, epochs and seed are the same; full fine-tuning has one
learning rate. "lost" is the drop of chance-corrected accuracy on the probes, paired, with its 95 %
bootstrap interval.
"""

from __future__ import annotations

import argparse
import datetime
import time
from pathlib import Path
from typing import Any

from trec_task import trec_task

import luthier as lu
from luthier.display import Display
from luthier.evaluation.forgetting import answer_probes, drop, general_probes
from luthier.files import read_json, write_json
from luthier.models.pool import ModelPool


def task(data: Path, given: argparse.Namespace) -> lu.Task:
    return trec_task(
        data,
        {"train": given.rows, "validation": 60, "test": given.test},
        training={"epochs": given.epochs},
        seed=given.seed,
    )


def remedies(given: argparse.Namespace) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of the row -> (method, keys of the training section)."""
    return {
        "lora": ("lora", {}),
        "full": ("full", {}),
        "full + replay": ("full", {"replay": {"from": "general", "ratio": given.ratio}}),
        "full + self-replay": ("full", {"replay": {"from": "self", "ratio": given.ratio}}),
        "full + wise-ft": ("full", {"wise_ft": "auto"}),
        "full + l2-sp": ("full", {"l2_sp": given.l2_sp}),
    }


def probe(model: str) -> list[bool]:
    pool = ModelPool()
    right = answer_probes(pool.generator(model), general_probes())
    pool.release()
    return right


def measure(
    name: str, method: str, keys: dict[str, Any], asked: lu.Task, out: Path, before: list[bool]
) -> dict[str, Any]:
    folder = out / name.replace(" + ", "-")
    wanted = asked.changed(training={**asked.training.model_dump(mode="json"), **keys})
    started = time.perf_counter()
    if not (folder / "train.json").is_file():
        lu.train(wanted, out=folder, method=method, resume=True, reporter=Display())
    trained = read_json(folder / "train.json")
    arm = lu.evaluate(folder, wanted, reporter=Display())
    return {
        "name": name,
        "score": arm["score"],
        "interval": arm["interval"],
        "forgetting": drop(general_probes(), before, probe(str(folder)), seed=asked.seed),
        "train_seconds": trained["seconds"],
        "wall_seconds": time.perf_counter() - started,
        "learning_rate": trained["config"]["learning_rate"],
        "notes": [note for note in trained["notes"] if "WiSE-FT" in note or "replayed" in note],
    }


def table(rows: list[dict[str, Any]], given: argparse.Namespace) -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    lines = [
        f"## {today} Remedies for forgetting (`python benchmarks/forgetting.py DATA --rows "
        f"{given.rows} --test {given.test} --epochs {given.epochs:g} --ratio {given.ratio:g} "
        f"--l2-sp {given.l2_sp:g} --seed {given.seed}`)",
        "",
        "| tuning | accuracy | 95 % | lost | 95 % | training s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["interval"]
        worst, best = row["forgetting"]["interval"]
        lines.append(
            f"| {row['name']} | {row['score']:.3f} | {low:.3f} to {high:.3f} "
            f"| {row['forgetting']['drop']:+.3f} | {worst:+.3f} to {best:+.3f} "
            f"| {row['train_seconds']:.0f} |"
        )
    said = [f"- {row['name']}: {note}" for row in rows for note in row["notes"]]
    return "\n".join([*lines, *([""] if said else []), *said]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/forgetting"))
    parser.add_argument("--only", help="rows to measure now, separated by commas")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--ratio", type=float, default=0.2)
    parser.add_argument("--l2-sp", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    wanted = remedies(given)
    chosen = [name.strip() for name in given.only.split(",")] if given.only else list(wanted)
    if unknown := [name for name in chosen if name not in wanted]:
        parser.error(f"unknown rows: {', '.join(unknown)}. Known: {', '.join(wanted)}")
    asked = task(given.data, given)
    settings = {key: getattr(given, key) for key in ("rows", "test", "epochs", "seed")}
    base = given.out / "base.json"
    if not base.is_file():
        write_json(base, {"settings": settings, "right": probe(asked.model)})
    held = read_json(base)
    if held["settings"] != settings:
        parser.error(f"{given.out} holds rows of other settings: {held['settings']}")
    for name in chosen:
        path = given.out / f"{name.replace(' + ', '-')}.json"
        if not path.is_file():
            method, keys = wanted[name]
            write_json(path, measure(name, method, keys, asked, given.out, held["right"]))
    paths = {name: given.out / f"{name.replace(' + ', '-')}.json" for name in wanted}
    shown = table([read_json(path) for path in paths.values() if path.is_file()], given)
    print(shown)
    with (given.out / "forgetting.md").open("a", encoding="utf-8") as lines:
        lines.write(shown + "\n")


if __name__ == "__main__":
    main()
