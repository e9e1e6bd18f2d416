"""Is a clean model accused, and is one that learned by heart caught? The embedded model on TREC.

    python benchmarks/memorisation.py DATA OUT [--rows 200] [--long 12] [--only clean,secrets]

DATA is a folder with the public data set `trec` (train.csv and test.csv with the columns question
and kind). LoRA on the same rows four times: once over clean rows (must not be accused), with eight
invented secrets planted 1, 2, 4 or 8 times each, with the default epochs and with twice as many
(must be caught), and many times over clean rows. Each training lies in OUT and is not repeated; the
table is of all that are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from trec_task import trec_task

import luthier
from luthier.display import Display
from luthier.files import read_json

#: The default of LoRA on so few rows.
EPOCHS = 3


def task(given: argparse.Namespace, training: dict[str, Any]) -> luthier.Task:
    return trec_task(
        given.data,
        {"train": given.rows, "validation": given.rows, "test": 200},
        training=training,
        memorisation=True,
        seed=given.seed,
    )


def told(name: str, folder: Path) -> str:
    """A row of the table."""
    found = read_json(folder / "memorisation.json")
    stage, tests = read_json(folder / "train.json"), found["tests"]
    member, canaries = tests["membership"], tests.get("canaries", {})
    best = member["attacks"][member["best"]]
    known = member["known"]
    exposed = f"{canaries['exposed']} of {canaries['planted']}" if canaries else ""
    p = min(test["p_adjusted"] for test in tests.values() if test.get("p") is not None)
    return (
        f"| {name} | {stage['config']['epochs']:g} | {found['memorised']} | {p:.2g} "
        f"| {best['auc']:.2f} ({member['best']}) | {100 * known['share']:.0f} % "
        f"({100 * known['interval'][0]:.0f} to {100 * known['interval'][1]:.0f}) | {exposed} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--long", type=float, default=12, help="epochs of the last")
    parser.add_argument(
        "--only", help="of clean, secrets, secrets-longer, long; separated by commas"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cases: dict[str, dict[str, Any]] = {
        "clean": {"epochs": 1},
        "secrets": {"canaries": 8},
        "secrets-longer": {"canaries": 8, "epochs": 2 * EPOCHS},
        "long": {"epochs": given.long},
    }
    for name in given.only.split(",") if given.only else cases:
        folder = given.out / name
        if not (folder / "memorisation.json").is_file():
            wanted = task(given, cases[name])
            luthier.train(wanted, out=folder, method="lora", resume=True, reporter=Display())
    print("| rows | epochs | memorised | least p, adjusted | largest AUC | known | exposed |")
    print("|---|---|---|---|---|---|---|")
    for name in cases:
        if (given.out / name / "memorisation.json").is_file():
            print(told(name, given.out / name))
            for reason in read_json(given.out / name / "memorisation.json")["reasons"]:
                print(f"  {reason}")


if __name__ == "__main__":
    main()
