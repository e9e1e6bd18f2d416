"""How fast the statistics are, and whether the verdict keeps what it promises.

    python benchmarks/evaluation.py bootstrap [--rows 5000] [--arms 8] [--resamples 10000]
    python benchmarks/evaluation.py rule [--runs 2000] [--only equal] [--out FILE]

`bootstrap` times the paired bootstrap of all arms, of rows and of clusters of rows, for a mean, for
BLEU's counts and for the macro F1 of 77 classes; beside it scipy.stats.bootstrap on the same rows,
for one arm's mean.

`rule` draws synthetic tests of arms whose true scores are known, lets the verdict decide each, and
prints how often it errs, with Monte-Carlo standard errors. Promised are at most 5 % of tests in
which an arm is deployed that is worse than the best by more than the margin, at most 5 % in which
an arm is called better than one that is as good, at most 5 % in which one is deployed for a lead
over the floor that it does not have, and intervals that cover 93 to 97 %. A number that breaks a
promise by more than two standard errors is marked with a star.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from luthier.evaluation.scoring import METRICS
from luthier.evaluation.statistics import paired_bootstrap
from luthier.verdict.simulation import Outcome, World, simulate


def machine() -> str:
    return f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"


# ---- bootstrap -----------------------------------------------------------------------------------


def tables(rng: np.random.Generator, metric: str, arms: int, rows: int) -> list[np.ndarray]:
    """Sufficient statistics of each arm, (rows, k), of made-up answers."""
    if metric == "accuracy":
        right = [(rng.random(rows) < 0.8).astype(float) for _ in range(arms)]
        return [np.stack([one, np.ones(rows)], axis=1) for one in right]
    if metric == "bleu":
        wanted = rng.integers(8, 30, rows)
        made = []
        for _ in range(arms):
            given = np.maximum(4, wanted + rng.integers(-3, 4, rows))
            total = np.stack([given - order for order in range(4)], axis=1)
            right = np.sort(rng.binomial(total, [0.6, 0.4, 0.3, 0.2]), axis=1)[:, ::-1]
            made.append(np.concatenate([given[:, None], wanted[:, None], right, total], axis=1))
        return [one.astype(float) for one in made]
    classes = np.eye(77)
    truth = rng.integers(0, 77, rows)
    made = []
    for _ in range(arms):
        given = np.where(rng.random(rows) < 0.8, truth, rng.integers(0, 77, rows))
        one, other = classes[truth], classes[given]
        made.append(np.concatenate([one * other, one, other], axis=1))
    return made


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The best of several runs."""
    best = math.inf
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def bootstrap(given: argparse.Namespace) -> str:
    from scipy import stats

    rng = np.random.default_rng(given.seed)
    clusters = [row // 5 for row in range(given.rows)]
    lines = [
        f"{given.resamples:,} resamples of {given.rows:,} rows, {given.arms} arms; {machine()}.",
        "",
        "| | k | rows, s | clusters of 5, s |",
        "|---|---|---|---|",
    ]
    for metric in ("accuracy", "bleu", "macro_f1"):
        drawn = tables(rng, metric, given.arms, given.rows)
        value = METRICS.get(metric).value

        def ours(groups: list[int] | None, drawn=drawn, value=value) -> None:  # type: ignore[no-untyped-def]
            found = paired_bootstrap(drawn, value, resamples=given.resamples, clusters=groups)
            for i in range(given.arms):
                found.interval(i)
                for j in range(i):
                    found.difference_interval(i, j)

        alone, together = seconds(lambda f=ours: f(None)), seconds(lambda f=ours: f(clusters))  # type: ignore[misc]
        lines.append(f"| {metric} | {drawn[0].shape[1]} | {alone:.2f} | {together:.2f} |")
    scores = tables(rng, "accuracy", given.arms, given.rows)[0][:, 0]
    theirs = seconds(
        lambda: stats.bootstrap(
            (scores,), np.mean, n_resamples=given.resamples, method="percentile", batch=500, rng=rng
        ),
        repeats=1,
    )
    lines += [
        "",
        f"scipy.stats.bootstrap, mean of one arm, percentile interval: {theirs:.2f} s; for "
        f"{given.arms} arms and their {math.comb(given.arms, 2)} differences one by one "
        f"{theirs * (given.arms + math.comb(given.arms, 2)):.0f} s.",
    ]
    return "\n".join(lines)


# ---- the rule ------------------------------------------------------------------------------------

SLIGHT = 0.021  # a hair more than the margin of two points


def worlds() -> dict[str, World]:
    """Name of the row -> arms and rows."""
    found = {}
    for arms in (2, 3, 5, 10):
        behind = (0.8,) + (0.8 - SLIGHT,) * (arms - 1)
        found[f"{arms} equal"] = World((0.8,) * arms)
        found[f"{arms} equal, alike"] = World((0.8,) * arms, shared=0.95)
        found[f"{arms} equal, 1,000 rows"] = World((0.8,) * arms, 1000)
        found[f"{arms} equal, 50 groups"] = World((0.8,) * arms, 400, group=8, grouped=0.4)
        found[f"{arms} equal, graded"] = World((0.6,) * arms, graded=True)
        found[f"{arms} small difference"] = World(behind)
        found[f"{arms} small difference, 1,000 rows"] = World(behind, 1000)
        found[f"{arms} small difference, 50 groups"] = World(behind, 400, group=8, grouped=0.4)
        found[f"{arms} small difference, graded"] = World(
            tuple(score - 0.2 for score in behind), graded=True
        )
        found[f"{arms} large difference"] = World((0.8,) + (0.6,) * (arms - 1))
        found[f"{arms} margin 0.2"] = World((0.8,) + (0.5999,) * (arms - 1), 1000, margin=0.2)
        found[f"{arms} as good as the floor"] = World((0.7,) * arms, 2000, margin=0.05, floor=0.7)
    found["5 equal, 20 groups"] = World((0.8,) * 5, 400, group=20, grouped=0.4)
    found["5 equal, graded, 50 groups"] = World((0.6,) * 5, 400, graded=True, group=8, grouped=0.4)
    found["3 equal at 0.97"] = World((0.97,) * 3)
    found["3 equal, 50 rows"] = World((0.8,) * 3, 50)
    return found


def row(name: str, outcome: Outcome, bootstrapped: bool) -> str:
    """A line of the table."""

    def rate(value: float) -> str:
        error = outcome.error(value)
        return f"{100 * value:.1f} ± {100 * error:.1f}{'*' * (value - 2 * error > 0.05)}"

    def share(value: float) -> str:
        error = math.sqrt(0.05 * 0.95 / outcome.runs)
        missed = value + 2 * error < 0.93 or value - 2 * error > 0.97
        return f"{100 * value:.1f}{'*' * missed}"

    cells = [
        name,
        f"{outcome.runs:,}",
        "bootstrap" if bootstrapped else "exact",
        f"{100 * outcome.deployed:.0f}",
        rate(outcome.wrong),
        rate(outcome.false_better),
        rate(outcome.false_lead),
        share(outcome.covers_score),
        share(outcome.covers_difference),
    ]
    return f"| {' | '.join(cells)} |"


def rule(given: argparse.Namespace) -> str:
    lines = [
        "| arms | tests | statistics | deployed, % | wrong, % | false better, % | false lead, % "
        "| score covered, % | difference covered, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name, world in worlds().items():
        if given.only not in name:
            continue
        bootstrapped = world.graded or world.group > 1
        runs = max(100, given.runs // 4) if bootstrapped else given.runs
        outcome = simulate(world, runs, seed=given.seed, resamples=given.resamples)
        lines.append(row(name, outcome, bootstrapped))
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="what", required=True)
    fast = verbs.add_parser("bootstrap")
    fast.add_argument("--rows", type=int, default=5000)
    fast.add_argument("--arms", type=int, default=8)
    fast.add_argument("--resamples", type=int, default=10_000)
    kept = verbs.add_parser("rule")
    kept.add_argument("--runs", type=int, default=2000, help="a quarter where it is resampled")
    kept.add_argument("--resamples", type=int, default=2000)
    kept.add_argument("--only", default="", help="rows of the table whose name holds this")
    for one in (fast, kept):
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--out", type=Path, help="append the table to this file")
    given = parser.parse_args()
    started = time.perf_counter()
    if given.what == "bootstrap":
        found = bootstrap(given)
        print(found)
    else:
        found = rule(given)
    print(f"\n{time.perf_counter() - started:.0f} s")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with given.out.open("a", encoding="utf-8") as table:
            table.write(f"\n{found}\n")


if __name__ == "__main__":
    main()
