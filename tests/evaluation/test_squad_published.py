"""Exact match and F1 held to what was published of three systems, where their answers are at hand.

The questions are read as a task's rows are, by the format `squad`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from luthier.data.reading import read_rows
from luthier.evaluation.scoring import ScoringRows, metrics_for, score

DATA = (
    Path(os.environ.get("LUTHIER_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "squad"
)
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the SQuAD files are not here")


def table(file: str) -> ScoringRows:
    given = json.loads((DATA / file).read_text("utf-8"))
    read = read_rows(f"dev-{file[:4]}.rebuilt.json", DATA, format="squad")
    questions = [row.values for row in read]
    return ScoringRows(
        kind="qa",
        inputs=[q["question"] for q in questions],
        references=[json.dumps(q["answers"]["text"]) for q in questions],
        predictions=[given.get(q["id"], "") for q in questions],
    )


@pytest.mark.parametrize(
    ("file", "rows", "exact", "f1"),
    [
        ("v1.1_bert_ensemble.json", 10_570, 86.21, 92.20),
        ("v1.1_logreg_baseline.json", 10_570, 40.14, 50.98),
        ("v2.0_bert_single.json", 11_873, 78.74, 81.78),
    ],
)
def test_published_results(file: str, rows: int, exact: float, f1: float) -> None:
    answers = table(file)
    assert len(answers) == rows
    assert 100 * score("exact_match", answers).value == pytest.approx(exact, abs=0.02)
    assert 100 * score("f1", answers).value == pytest.approx(f1, abs=0.02)


def test_questions_without_an_answer() -> None:
    answers = table("v2.0_bert_single.json")
    without = [reference == "[]" for reference in answers.references]
    assert sum(without) == 5945
    # of a question without an answer: right if nothing was answered
    said = [p == "" for p, none in zip(answers.predictions, without, strict=True) if none]
    assert score("no_answer_f1", answers).value == pytest.approx(sum(said) / len(said))
    has, no = score("has_answer_f1", answers).value, score("no_answer_f1", answers).value
    whole = (has * without.count(False) + no * sum(without)) / len(without)
    assert score("f1", answers).value == pytest.approx(whole)
    assert "no_answer_f1" not in metrics_for("qa", table("v1.1_logreg_baseline.json"))


def test_an_answer_in_words_that_there_is_none() -> None:
    """What the template library has models write scores as the empty answer does."""
    answers = table("v2.0_bert_single.json")
    in_words = ScoringRows(
        kind="qa",
        inputs=answers.inputs,
        references=answers.references,
        predictions=[text or "unanswerable" for text in answers.predictions],
    )
    for name in ("exact_match", "f1"):
        assert score(name, in_words).value == score(name, answers).value
