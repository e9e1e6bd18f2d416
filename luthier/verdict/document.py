"""verdict.json: the comparison and its decision as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.task import Task
from luthier.verdict.compare import LEVEL, Compared, Comparison, Pair
from luthier.verdict.decide import Decision

#: Costs of an arm, in the order they are written.
COSTS = (
    "train_seconds",
    "train_tokens_per_second",
    "trained_parameters",
    "total_parameters",
    "seconds_per_answer",
    "prompt_tokens_per_answer",
    "peak_memory_bytes",
)


def build_verdict(
    task: Task,
    n_test: int,
    compared: Comparison,
    decision: Decision,
    *,
    seed: int | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """What verdict.json holds; it may be written with `allow_nan=False`.

    Args:
        task: that was run.
        n_test: rows of the test.
        compared: all arms, the failed ones too.
        decision: about them.
        seed: of the run; the task's own when None.
        warnings: what the reader should know before believing it (lint findings, a spent budget).
    """
    return {
        "task": task.name,
        "kind": task.kind,
        "metric": compared.metric.name,
        "n_test": n_test,
        "seed": task.seed if seed is None else seed,
        "decision": decision.decision,
        "recommendation": decision.recommendation,
        "headline": decision.headline,
        "reasons": list(decision.reasons),
        "minimum_detectable_effect": _number(decision.minimum_detectable_effect),
        "more_rows": decision.more_rows,
        "margin": task.success.margin,
        "statistics": {
            "level": LEVEL,
            "joint_level": compared.joint_level,
            "method": compared.method,
            "independent_units": compared.units,
            "signature": compared.metric.signature(),
        },
        "warnings": list(warnings),
        "arms": [arm_object(arm, compared) for arm in compared.arms],
        "pairs": [
            {
                "arms": [pair.first, pair.second],
                "difference": _number(pair.difference),
                "interval": _interval(pair.interval),
                "joint_interval": _interval(pair.joint_interval),
                "p": _number(pair.p),
                "p_adjusted": _number(compared.adjusted[pair.first, pair.second]),
            }
            for pair in each_once(compared)
        ],
    }


def arm_object(arm: Compared, compared: Comparison) -> dict[str, Any]:
    """One arm of verdict.json; also what `luthier evaluate --json` prints."""
    result = arm.result
    forgetting = result.forgetting
    return {
        "name": arm.name,
        "score": _number(arm.score),
        "interval": _interval(arm.interval),
        "invalid_rate": _number(result.invalid_rate),
        "versus_best": _versus_best(arm, compared),
        **{key: _number(result.costs.get(key)) for key in COSTS},
        "forgetting": None
        if forgetting is None
        else {
            "drop": _number(forgetting.get("drop")),
            "interval": _interval(forgetting.get("interval")),
            "probes": plain(forgetting.get("probes") or {}),
            **{k: plain(forgetting[k]) for k in ("bits_per_byte", "left_out") if k in forgetting},
        },
        "memorisation": plain(result.memorisation),
        "metrics": {name: _number(value) for name, value in result.metrics.items()},
        "failed": result.failed,
        "floor": result.floor,
        "ceiling": result.ceiling,
        **{key: plain(value) for key, value in result.extra.items()},
    }


def _versus_best(arm: Compared, compared: Comparison) -> dict[str, Any] | None:
    if arm.score is None or compared.best is None or arm.name == compared.best:
        return None
    pair = compared.pairs[arm.name, compared.best]
    return {
        "arm": compared.best,
        "difference": _number(pair.difference),
        "interval": _interval(pair.interval),
        "p": _number(pair.p),
        "p_adjusted": _number(compared.p_adjusted[arm.name]),
    }


def each_once(compared: Comparison) -> list[Pair]:
    """Each pair once, the earlier arm first."""
    place = {arm.name: i for i, arm in enumerate(compared.arms)}
    return [pair for (a, b), pair in compared.pairs.items() if place[a] < place[b]]


def _number(value: Any) -> float | int | None:
    """A plain, finite number, or None."""
    if value is None:
        return None
    if isinstance(value, int):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _interval(ends: Sequence[float] | None) -> list[float | int | None] | None:
    return None if ends is None else [_number(end) for end in ends]


def plain(value: Any) -> Any:
    """Plain JSON values: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
