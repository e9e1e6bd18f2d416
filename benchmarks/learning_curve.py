"""Does a learning curve from few examples foretell what many bring? One arm on TREC.

    python benchmarks/learning_curve.py DATA OUT [--arm lora] [--rows 500] [--then 2000]
        [--test 500] [--seed 0]

DATA is a folder with the public data set `trec` (train.csv and test.csv with the columns question
and kind). A run with `--rows` training examples makes the pilot fits and the band that a user would
see; a second run with `--then` examples, of which nothing was known to the first, says what came.
Both lie in OUT; a run that was interrupted goes on. Printed are the scores of all fits, the 90 %
bands, and whether the score of the second run lies in its band.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from trec_task import trec_task

import luthier
from luthier.display import Display
from luthier.evaluation.learning_curve import learning_curve


def run(given: argparse.Namespace, rows: int, curve: bool) -> dict[str, Any]:
    """verdict.json of a run with so many training examples."""
    task = trec_task(
        given.data,
        {"train": rows, "validation": 60, "test": given.test},
        name=f"trec-{rows}",
        arms=["majority", given.arm],
        success={"max_forgetting": None},
        memorisation=False,
        learning_curve=curve,
        budget={"minutes": given.minutes},
        seed=given.seed,
    )
    out = given.out / f"{given.arm}-{rows}"
    done = luthier.run(task, out=out, resume=out.exists(), reporter=Display())
    return dict(done.verdict)


def score_of(verdict: dict[str, Any], name: str) -> dict[str, Any]:
    return next(arm for arm in verdict["arms"] if arm["name"] == name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arm", default="lora")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--then", type=int, default=2000)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=240)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    verdict = run(given, given.rows, True)
    found = verdict["learning_curve"]
    if not found:
        parser.exit(1, f"No curve: {verdict['no_learning_curve']}\n")
    scores = {point["examples"]: point["scores"] for point in found["points"]}
    print("\n| examples | scores of the fits |\n|---|---|")
    for examples, some in sorted(scores.items()):
        print(f"| {examples:,} | {', '.join(f'{score:.1%}' for score in some)} |")
    print(f"\n{found['said']}")
    band = learning_curve(scores, seed=given.seed).band(given.then, seed=given.seed)
    low, high = band.interval
    print(f"Foretold for {given.then:,}: {band.score:.1%}, 90 % band {low:.1%} to {high:.1%}.")
    came = score_of(run(given, given.then, False), given.arm)
    print(
        f"It came to {came['score']:.1%} ({came['interval'][0]:.1%} to {came['interval'][1]:.1%} "
        f"by the test's rows): {'within' if low <= came['score'] <= high else 'OUTSIDE'} the band."
    )


if __name__ == "__main__":
    main()
