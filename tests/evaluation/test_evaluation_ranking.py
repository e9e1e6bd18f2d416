"""Rankings and answers from documents, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from luthier.evaluation.ranking import (
    context_precision,
    ndcg_at,
    recall_at,
    reciprocal_rank,
    retrieval,
)


def test_rankings_by_hand() -> None:
    hits = [False, True, False, True]
    assert recall_at(hits, 3, 2) == pytest.approx(1 / 3)
    assert reciprocal_rank(hits) == 0.5
    assert reciprocal_rank([False]) == 0
    assert context_precision(hits) == pytest.approx((1 / 2 + 2 / 4) / 2)
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    best = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg_at(hits, 3, 4) == pytest.approx(gain / best)
    assert ndcg_at([True], 1, 10) == 1


def test_ndcg_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import ndcg_score

    hits = [True, False, False, True, False]
    scores = [[5.0, 4.0, 3.0, 2.0, 1.0]]
    assert ndcg_at(hits, 2, 5) == pytest.approx(ndcg_score([[float(h) for h in hits]], scores))


def row(
    reference: str, score: float, documents: str, cited: str = "", support: float = 1.0
) -> dict[str, Any]:
    return {
        "reference": reference,
        "score": score,
        "passages": [{"document": name} for name in documents],
        "citations": [{"document": name} for name in cited],
        "abstained": not cited and support == 1.0,
        "support": support,
    }


def test_faults_citations_and_abstentions() -> None:
    rows = [
        row("x", 1.0, "ab", "a"),  # right, cited
        row("x", 0.0, "ab", "b"),  # shown, and read wrongly
        row("x", 0.0, "bc"),  # not shown; it abstained
        row("x", 0.9, "ca", "", 0.5),  # right, without a citation
        row("not in the documents", 1.0, "ab"),  # nothing to find, and said so
        row("unanswerable", 0.0, "ab", "a"),  # nothing to find, and answered
    ]
    found = retrieval(rows, ["a", "a", "a", "a", None, None])
    assert found["search"] == {
        "n": 4,
        "k": 2,
        "recall@1": 0.5,
        "recall@3": 0.75,
        "recall@k": 0.75,
        "mrr": pytest.approx((1 + 1 + 0 + 0.5) / 4),
        "ndcg": pytest.approx((1 + 1 + 0 + 1 / math.log2(3)) / 4),
        "context_precision": pytest.approx((1 + 1 + 0 + 0.5) / 4),
    }
    assert found["faults"] == {"wrong": 2, "retriever": 1, "withheld": 0, "reader": 1}
    # one citation of three points to the right document; that of an answer to nothing cannot
    assert found["citations"] == {
        "given": 3,
        "precision": pytest.approx(1 / 3),
        "answers": 3,
        "recall": pytest.approx(1 / 3),
    }
    assert found["faithfulness"] == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert found["abstention"] == {
        "abstained": 2,
        "unanswerable": 2,
        "precision": 0.5,
        "recall": 0.5,
    }


def test_an_answer_that_was_not_let_pass_is_no_fault_of_the_reader() -> None:
    held_back = {**row("x", 0.0, "ab"), "abstained": True, "unsupported": "x, as the text says"}
    not_shown = {**held_back, "passages": [{"document": "c"}]}
    found = retrieval([held_back, not_shown, row("x", 0.0, "ab", "b")], ["a", "a", "a"])
    assert found["faults"] == {"wrong": 3, "retriever": 1, "withheld": 1, "reader": 1}


def test_without_known_documents() -> None:
    found = retrieval([row("x", 1.0, "ab", "a")], [None])
    assert found["search"] is found["faults"] is found["citations"] is None
    assert found["abstention"]["precision"] is None


def test_several_pieces_of_a_document_are_one_document() -> None:
    search = retrieval([row("x", 1.0, "aab", "a")], ["a"])["search"]
    assert search["recall@1"] == search["recall@3"] == search["recall@k"] == 1
    assert search["ndcg"] == search["context_precision"] == 1
