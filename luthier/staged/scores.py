"""The answers of the base and of every stage to every stage's test, and the matrix they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from luthier.evaluation.scoring import score
from luthier.evaluation.transfer import Column, fill, transfer
from luthier.files import read_jsonl, write_json, write_jsonl
from luthier.progress import Reporter
from luthier.staged.asking import answer_test, column, scoring_rows
from luthier.staged.plan import Ready

BASE = "base"


def row_folder(out: Path, row: str) -> Path:
    """Where a row of the matrix keeps its files: the base's, or a stage's."""
    return out / BASE if row == BASE else out / "stages" / row


def tested(ready: Sequence[Ready]) -> list[Ready]:
    """The stages that have a test; raw text has none."""
    return [one for one in ready if one.prepared.splits.test]


def answer_all(
    out: Path, row: str, model: str, base: Path | None, ready: Sequence[Ready], reporter: Reporter
) -> None:
    """Let a model answer the tests of all stages that it has not answered yet.

    Args:
        out: the chain's folder.
        row: "base", or the name of a stage.
        model: what answers.
        base: where a relative model name starts.
        ready: the stages with their data.
        reporter: hears of the progress.

    Raises:
        ModelError: the model cannot be loaded.
    """
    from luthier.generation.local import Generator
    from luthier.models.allocator import give_back_memory
    from luthier.models.pool import answering_dtype
    from luthier.models.tuned import load_any

    missing = [one for one in tested(ready) if not _answers(out, row, one).is_file()]
    if not missing:
        return
    loaded = load_any(model, answering_dtype(), base=base, reporter=reporter)
    generator = Generator(loaded.model, loaded.tokenizer)
    for one in missing:
        answers = answer_test(
            row, generator, loaded.context_length, one.link.task, one.prepared, reporter
        )
        write_jsonl(
            _answers(out, row, one),
            (
                {
                    "id": example.id,
                    "input": example.input,
                    "reference": example.output,
                    "prediction": answer.text,
                }
                for example, answer in zip(one.prepared.splits.test, answers, strict=True)
            ),
        )
    del generator, loaded
    give_back_memory()


def chance(one: Ready) -> tuple[float, str]:
    """What an answer without knowledge scores on a stage's test, and what that answer is."""
    task, splits = one.link.task, one.prepared.splits
    if task.kind != "classification":
        return 0.0, f"0, a {task.kind} is not answered by guessing"
    counted = Counter(example.output for example in splits.train)
    most = min(counted, key=lambda label: (-counted[label], label))
    found = score(task.chosen_by, scoring_rows(task, one.prepared, [most] * len(splits.test)))
    return found.value, f"always the most common training label, {most!r}"


def write_matrix(out: Path, model: str, ready: Sequence[Ready], notes: Sequence[str]) -> Any:
    """matrix.json, from the answers that lie in the folder.

    Rows whose answers are not whole yet are None. `summary` and `terms` come with the last row.

    Returns:
        What was written.
    """
    names = [BASE, *(one.link.name for one in ready)]
    asked = tested(ready)
    done = [row for row in names if all(_answers(out, row, one).is_file() for one in asked)]
    columns = [
        replace(_column(out, done, one), stage=stage)
        for stage, one in enumerate(ready, 1)
        if one in asked
    ]
    seed = ready[-1].link.task.seed
    filled = fill(columns, seed=seed)
    scores: list[Any] = filled.scores.round(6).tolist()
    held = {
        "task": ready[-1].link.task.name,
        "model": model,
        "finished": done == names,
        "rows": names,
        "stages": [{"name": one.link.name, "method": one.link.method} for one in ready],
        "columns": [_described(one, column) for one, column in zip(asked, columns, strict=True)],
        "scores": scores + [None] * (len(names) - len(done)),
        "intervals": [
            *([[round(end, 6) for end in pair] for pair in row] for row in filled.intervals),
            *[None] * (len(names) - len(done)),
        ],
        **(transfer(columns, filled).to_dict() if done == names else {}),
        "notes": list(notes),
    }
    write_json(out / "matrix.json", held)
    return held


def _column(out: Path, rows: Sequence[str], one: Ready) -> Column:
    answers = [
        [str(line["prediction"]) for line in read_jsonl(_answers(out, row, one))] for row in rows
    ]
    found = column(one.link.name, one.link.task, one.prepared, answers)
    return replace(found, chance=chance(one)[0])


def _described(one: Ready, found: Column) -> dict[str, Any]:
    task = one.link.task
    return {
        "name": one.link.name,
        "task": task.name,
        "task_file": str(task.path),
        "kind": task.kind,
        "metric": found.metric.name,
        "method": one.link.method,
        "n": len(one.prepared.splits.test),
        "n_train": len(one.prepared.splits.train),
        "chance": round(found.chance, 6),
        "chance_is": chance(one)[1],
    }


def _answers(out: Path, row: str, one: Ready) -> Path:
    return row_folder(out, row) / "answers" / f"{one.link.name}.jsonl"
