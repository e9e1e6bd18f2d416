"""What verdict.json says beside scores: calibration, behaviour and costs of each arm; slices and
break-even points of the run. All of it is computed from what the run folder holds."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.data.examples import Example, Splits
from luthier.evaluation import behaviour, calibration, costs
from luthier.evaluation.scoring import METRICS, Metric
from luthier.evaluation.slices import FEWEST, by_slice, slice_rows
from luthier.evaluation.topics import topics
from luthier.task import Task
from luthier.task_sections import Kind, Prices

#: Test rows that are embedded at most; one takes a CPU about 10 ms.
_EMBEDDED = 1_000

if TYPE_CHECKING:
    from luthier.models.pool import ModelPool
    from luthier.runs import Run
    from luthier.verdict.compare import ArmResult


def measures_of_arm(
    kind: Kind,
    rows: Sequence[Mapping[str, Any]],
    *,
    record: Mapping[str, Any],
    stored: Path | None,
    base: Path | None,
    wanted: Sequence[str],
    prices: Prices,
    clusters: Sequence[Hashable] | None = None,
) -> dict[str, Any]:
    """`calibration`, `behaviour` and `costs` of an arm that answered.

    Args:
        kind: of the task.
        rows: of predictions.jsonl.
        record: arm.json.
        stored: the folder with what is kept of it for this task, if anything is.
        base: the base model's folder, where it is known.
        wanted: the task's.
        prices: the task's.
        clusters: an id for each row, where rows belong together.
    """
    sure = [calibration.confidence_of(row) for row in rows]
    known = [value for value in sure if value is not None]
    whole = bool(rows) and len(known) == len(rows)
    held = record.get("costs") or {}
    money = costs.spending(held, prices) if costs.has_prices(prices) else None
    writes = any(row.get("completion_tokens") for row in rows)
    return {
        "calibration": calibration.calibrate(
            known, [row["score"] for row in rows], clusters
        ).to_dict()
        if whole
        else None,
        "behaviour": behaviour.behaviour(
            kind,
            [row["reference"] for row in rows],
            [row["prediction"] for row in rows],
            endings=[row.get("finish_reason") for row in rows] if writes else (),
            wanted=wanted,
        ),
        "costs": {
            **costs.spread(rows),
            "stored_bytes": costs.stored_bytes(stored) if stored else 0,
            "base_model_bytes": costs.stored_bytes(base) if base else None,
            "train_joules": held.get("train_joules"),
            "joules_per_answer": held.get("joules_per_answer"),
            "training_price": money.training if money else None,
            "price_per_answer": money.each if money else None,
        },
    }


def measures_of_run(
    verdict: Mapping[str, Any],
    results: Sequence[ArmResult],
    task: Task,
    *,
    metric: Metric,
    splits: Splits,
    clusters: Sequence[Hashable] | None,
    vectors: Any = None,
) -> dict[str, Any]:
    """`slices` and `break_even` of a run.

    A classification's slices are scored by accuracy whatever decides: F1 over the classes of a
    part that has one class would mean something else than over the whole.

    Args:
        verdict: names the recommended arm.
        results: of all arms.
        task: that was run.
        metric: that decides it.
        splits: its data.
        clusters: an id for each test row, where rows belong together.
        vectors: (test rows, d), inputs as an encoder sees them, to find topics by; or None.
    """
    alive = [one for one in results if one.failed is None and one.statistics is not None]
    labelled = task.kind == "classification"
    if labelled:
        metric = METRICS.get("accuracy")
    tables = {}
    for one in alive:
        right = np.asarray(one.row_scores, dtype=float)
        tables[one.name] = (
            np.stack([right, np.ones_like(right)], axis=1)
            if labelled
            else _of_one_fit(np.asarray(one.statistics, dtype=float))
        )
    test, train = splits.test, splits.train
    inputs = [example.input for example in test]
    found = slice_rows(
        inputs,
        labels=[example.output for example in test] if labelled else None,
        trained=Counter(example.output for example in train) if labelled else None,
        fields=[example.fields for example in test],
        topics=topics(inputs, vectors, seed=task.seed),
    )
    return {
        "slices": {
            "metric": metric.name,
            "fewest_rows": FEWEST,
            "overall": {
                name: float(metric.value(table.sum(axis=0))) for name, table in tables.items()
            },
            "parts": [
                one.to_dict()
                for one in by_slice(found, tables, metric, clusters=clusters, seed=task.seed)
            ],
        },
        "break_even": _break_even(verdict, alive, task.prices),
    }


def _of_one_fit(table: Any) -> Any:
    """(rows, k) statistics; of several fits, (fits, rows, k), what they are on average."""
    return table.mean(axis=0) if table.ndim == 3 else table


def vectors_of(run: Run, pool: ModelPool, test: Sequence[Example]) -> Any:
    """The test's inputs as the run's sentence encoder sees them; None where it has none, or where
    there are so many that embedding them again would take long."""
    from luthier.arms.linear_probe import ENCODER, LinearProbe

    if LinearProbe.name not in run.finished_arms() or len(test) > _EMBEDDED:
        return None
    return pool.encoder(ENCODER).encode([example.input for example in test])[0]


def _break_even(
    verdict: Mapping[str, Any], alive: Sequence[ArmResult], prices: Prices
) -> dict[str, Any] | None:
    """From how many answers on the recommended arm costs less than each other one."""
    real = [one for one in alive if not (one.floor or one.ceiling)]
    spent = {one.name: costs.spending(one.costs, prices) for one in real}
    name = verdict.get("recommendation")
    own = spent.get(name) if isinstance(name, str) else None
    if own is None:
        return None
    return {
        "arm": name,
        "unit": "price" if costs.has_prices(prices) else "seconds",
        "against": [
            {"arm": other, **dataclasses.asdict(costs.break_even(own, spending))}
            for other, spending in spent.items()
            if other != name and spending is not None
        ],
    }


def complete(run: Run) -> bool:
    """Add to an older run's verdict.json what it does not say yet.

    Returns:
        Whether anything was added. A folder without its predictions or data, or with arms
        that are not known here, stays as it is.
    """
    from luthier.arms.base import ARMS
    from luthier.evaluation.clusters import clusters_of
    from luthier.evaluation.scoring import deciding_metric
    from luthier.files import read_jsonl, write_json
    from luthier.results import arm_result
    from luthier.verdict.document import plain

    verdict = run.verdict
    data = run.folder / "data"
    names = [arm["name"] for arm in verdict.get("arms", [])]
    files = [data / "train.jsonl", data / "test.jsonl"]
    files += [run.arm_folder(name) / "predictions.jsonl" for name in run.finished_arms()]
    known = all(name in ARMS for name in names)
    if "slices" in verdict or not known or not all(path.is_file() for path in files):
        return False
    task = run.task
    metric = deciding_metric(task.chosen_by, task.kind)
    results = [
        arm_result(run, name, kind=task.kind, labels=run.labels, metric=metric) for name in names
    ]
    train, test = ([Example.from_row(row) for row in read_jsonl(path)] for path in files[:2])
    verdict |= measures_of_run(
        verdict,
        results,
        task,
        metric=metric,
        splits=Splits(train, (), test),
        clusters=clusters_of(test)[0],
    )
    for arm, result in zip(verdict["arms"], results, strict=True):
        arm |= {key: plain(value) for key, value in result.extra.items()}
    write_json(run.folder / "verdict.json", verdict)
    return True
