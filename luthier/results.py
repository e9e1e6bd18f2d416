"""What an arm leaves in its folder, arm.json and predictions.jsonl, and how they are read again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from luthier.arms.base import ARMS, Fit
from luthier.court import judged_of
from luthier.data.examples import Example
from luthier.data.schemas import AnswerSchema
from luthier.evaluation.scoring import Metric, ScoringRows, metrics_for, score
from luthier.evaluation.structure import structure
from luthier.files import read_json, read_jsonl
from luthier.generation.answers import Answer
from luthier.measures import measures_of_arm
from luthier.runs import Run
from luthier.task import Task
from luthier.task_sections import Kind
from luthier.verdict.compare import ArmResult

#: Where a run keeps what was fitted again (`luthier.refits`), as ARM.seed-NUMBER or
#: ARM.EXAMPLES-NUMBER.
REFITS = "refits"
SEED = "seed"
#: The answers of an arm, or of a refit, in its folder.
PREDICTIONS = "predictions.jsonl"


def record_of(
    fit: Fit,
    answers: Sequence[Answer],
    *,
    seconds: float,
    peak: int,
    joules: tuple[float | None, float | None] = (None, None),
    aftermath: dict[str, Any],
) -> dict[str, Any]:
    """What arm.json holds of an arm that answered the test.

    Args:
        fit: what fitting it said.
        answers: to the test.
        seconds: wall time of one answer, on average.
        peak: bytes of memory, while it was fitted and answered.
        joules: of fitting, and of answering the whole test; None where the machine does not tell.
        aftermath: what was forgotten and learned by heart; empty for an arm that changes no
            weights.
    """
    return {
        "failed": None,
        "settings": fit.settings,
        "choices": [choice.to_dict() for choice in fit.choices],
        "costs": {
            **fit.costs,
            **costs_of_answers(answers, seconds, peak, joules[1]),
            "train_joules": joules[0],
        },
        "cut_off": sum(answer.finish_reason == "length" for answer in answers),
        "forgetting": None,
        **aftermath,
        "curve": fit.curve,
        "notes": fit.notes,
        **fit.extra,
    }


def costs_of_answers(
    answers: Sequence[Answer], seconds: float, peak: int, joules: float | None
) -> dict[str, Any]:
    """`costs` of arm.json that answering the test tells; see `record_of`."""
    return {
        "seconds_per_answer": seconds,
        "prompt_tokens_per_answer": float(np.mean([a.prompt_tokens for a in answers])),
        "completion_tokens_per_answer": float(np.mean([a.completion_tokens for a in answers])),
        "peak_memory_bytes": peak,
        "joules_per_answer": None if joules is None else joules / len(answers),
    }


def prediction_row(example: Example, answer: Answer, value: float) -> dict[str, Any]:
    """A row of predictions.jsonl; `value` is its score.

    An arm that gives the probabilities of the labels knows how sure it is of its answer.
    """
    sure = answer.extra.get("probabilities", {}).get(answer.text)
    return {
        "id": example.id,
        "input": example.input,
        "reference": example.output,
        "prediction": answer.text,
        "score": round(value, 6),
        "seconds": round(answer.seconds, 6),
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "finish_reason": answer.finish_reason,
        **({} if sure is None else {"confidence": sure}),
        **answer.extra,
    }


def scoring_rows(
    kind: Kind,
    labels: tuple[str, ...] | None,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    schema: AnswerSchema | None = None,
) -> ScoringRows:
    """Answers beside what was wanted, as metrics read them."""
    return ScoringRows(
        kind=kind,
        inputs=[e.input for e in examples],
        references=[e.output for e in examples],
        predictions=[a.text for a in answers],
        labels=labels,
        schema=schema,
        judged=_judged([a.extra for a in answers]),
    )


def read_rows(
    kind: Kind,
    rows: Sequence[Mapping[str, Any]],
    labels: tuple[str, ...] | None,
    schema: AnswerSchema | None = None,
) -> ScoringRows:
    """Rows of predictions.jsonl, as metrics read them."""
    probabilities = [row.get("probabilities") for row in rows]
    return ScoringRows(
        kind=kind,
        inputs=[row["input"] for row in rows],
        references=[row["reference"] for row in rows],
        predictions=[row["prediction"] for row in rows],
        labels=labels,
        probabilities=probabilities if all(probabilities) else None,
        schema=schema,
        judged=_judged(rows),
    )


def _judged(rows: Sequence[Mapping[str, Any]]) -> list[float] | None:
    found = [row.get("judged") for row in rows]
    return [float(one) for one in found if one is not None] if None not in found else None


def _retrieval(
    rows: Sequence[Mapping[str, Any]], gold: Sequence[str | None] | None
) -> dict[str, Any]:
    """`retrieval` of an arm that was shown passages."""
    from luthier.evaluation.ranking import retrieval

    if gold is None or not all("passages" in row for row in rows):
        return {}
    return {"retrieval": retrieval(rows, gold)}


def _seeds(run: Run, result: ArmResult, metric: Metric) -> dict[str, Any]:
    """`seeds` of an arm that was fitted with several: each one's score, the served one first."""
    if result.statistics is None or result.statistics.ndim < 3:
        return {}
    records = [read_json(one / "arm.json") for one in finished(run, result.name, SEED)]
    seeds = [run.task.seed, *(record["seed"] for record in records)]
    scores = [float(metric.value(table.sum(axis=0))) for table in result.statistics]
    return {"seeds": {"seeds": seeds, "scores": scores, "deviation": float(np.std(scores, ddof=1))}}


def finished(run: Run, name: str, what: str) -> list[Path]:
    """Folders of an arm's refits of one sort that did not fail, by number.

    Args:
        run: where they are.
        name: of the arm.
        what: SEED, or a number of training examples.
    """
    start = f"{name}.{what}-"
    found = [
        path.parent
        for path in (run.folder / REFITS).glob("*/arm.json")
        if path.parent.name.startswith(start) and read_json(path)["failed"] is None
    ]
    return sorted(found, key=lambda folder: int(folder.name.removeprefix(start)))


def arm_result(
    run: Run,
    name: str,
    *,
    kind: Kind,
    labels: tuple[str, ...] | None,
    metric: Metric,
    schema: AnswerSchema | None = None,
    gold: Sequence[str | None] | None = None,
    clusters: Sequence[Hashable] | None = None,
) -> ArmResult:
    """What an arm's folder says of it, scored.

    Args:
        run: where it is.
        name: of the arm.
        kind: of the task.
        labels: of a classification, else None.
        metric: the one that decides.
        schema: what structured answers are held against.
        gold: the document with the answer of each test row, in a task that has documents.
        clusters: an id for each test row, where rows belong together.
    """
    record = run.arm_record(name)
    arm = ARMS.get(name)
    if record is None or record.get("failed"):
        reason = record["failed"] if record else "it was not run"
        return ArmResult(name, None, floor=arm.floor, ceiling=arm.ceiling, failed=reason)
    result = result_of(
        name,
        read_jsonl(run.arm_folder(name) / PREDICTIONS),
        record,
        run.task,
        again=[read_jsonl(one / PREDICTIONS) for one in finished(run, name, SEED)],
        kind=kind,
        labels=labels,
        metric=metric,
        schema=schema,
        gold=gold,
        stored=run.arm_folder(name) / "model",
        base=base_of(run.manifest),
        clusters=clusters,
    )
    return replace(
        result,
        floor=arm.floor,
        ceiling=arm.ceiling,
        can_forget=arm.changes_weights,
        extra={**result.extra, **_seeds(run, result, metric)},
    )


def base_of(manifest: Mapping[str, Any]) -> Path | None:
    """The folder of a run's base model, as its manifest names it."""
    path = Path(str((manifest.get("model") or {}).get("path") or ""))
    return path if path.is_absolute() else None


def result_of(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],
    task: Task,
    *,
    again: Sequence[Sequence[Mapping[str, Any]]] = (),
    kind: Kind,
    labels: tuple[str, ...] | None,
    metric: Metric,
    schema: AnswerSchema | None = None,
    gold: Sequence[str | None] | None = None,
    stored: Path | None = None,
    base: Path | None = None,
    clusters: Sequence[Hashable] | None = None,
) -> ArmResult:
    """Score answers and measure all else that verdict.json says of an arm.

    Args:
        name: of what answered.
        rows: as in predictions.jsonl.
        record: `costs`, `forgetting` and `memorisation` as in arm.json.
        task: `wanted`, `prices` and `seed`.
        again: the answers of the same arm fitted with other seeds.
        kind, labels, metric, schema, gold: see `arm_result`.
        stored: the folder with what is kept of it for this task.
        base: the folder of the base model.
        clusters: an id for each row, where rows belong together.
    """
    scoring = read_rows(kind, rows, labels, schema)
    scored = score(metric.name, scoring)
    others = [read_rows(kind, one, labels, schema) for one in again]
    fits = [scored, *(score(metric.name, one) for one in others)]
    return ArmResult(
        name,
        np.stack([one.statistics for one in fits]) if again else scored.statistics,
        row_scores=np.mean([one.row_scores for one in fits], axis=0),
        invalid_rate=float(np.mean([one.invalid_rate for one in fits])),
        costs=record["costs"],
        forgetting=record.get("forgetting"),
        memorisation=record.get("memorisation"),
        metrics={
            other: float(np.mean([score(other, one).value for one in (scoring, *others)]))
            for other in metrics_for(kind, scoring)
        },
        extra=measures_of_arm(
            kind,
            rows,
            record=record,
            stored=stored,
            base=base,
            wanted=task.wanted,
            prices=task.prices,
            clusters=clusters,
        )
        | _retrieval(rows, gold)
        | structure(scoring)
        | judged_of(scoring, seed=task.seed, clusters=clusters),
    )
