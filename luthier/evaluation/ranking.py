"""Was the right passage found, and did the answer rest on it?

Rankings are lists of what was found, best first; relevance is yes or no.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.evaluation.metrics.squad import abstains

#: A row of this score or more counts as answered rightly, when faults are told apart.
RIGHT = 0.5


def recall_at(relevant: Sequence[bool], wanted: int, k: int) -> float:
    """The share of the `wanted` relevant items that are among the first k.

    Args:
        relevant: whether each found item is relevant, best first.
        wanted: how many relevant items there are at all, 1 at least.
        k: 1 or more.
    """
    return sum(relevant[:k]) / wanted


def reciprocal_rank(relevant: Sequence[bool]) -> float:
    """1 / the rank of the first relevant item; 0 where there is none."""
    return next((1 / rank for rank, hit in enumerate(relevant, 1) if hit), 0.0)


def ndcg_at(relevant: Sequence[bool], wanted: int, k: int) -> float:
    """Normalised discounted cumulative gain (Jarvelin & Kekalainen 2002): sum of 1 / log2(rank + 1)
    over relevant items among the first k, divided by what the best order would have."""
    gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(relevant[:k], 1) if hit)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(wanted, k) + 1))
    return gain / best if best else 0.0


def context_precision(relevant: Sequence[bool]) -> float:
    """sum_k (precision at k * v_k) / relevant items found, over all that were shown (v_k: whether
    the k-th is relevant); 0 where none is."""
    hits, total = 0, 0.0
    for rank, hit in enumerate(relevant, 1):
        hits += hit
        total += hits / rank if hit else 0.0
    return total / hits if hits else 0.0


def retrieval(rows: Sequence[Mapping[str, Any]], gold: Sequence[str | None]) -> dict[str, Any]:
    """What an arm that reads passages did: verdict.json's `retrieval` of an arm.

    Args:
        rows: of predictions.jsonl, with "passages", "citations", "abstained" and "support".
        gold: the document with the answer, of each row; None where it is not known.

    Returns:
        "search": of answerable rows whose document is known, {"n", "recall@1", "recall@3",
        "recall@k", "mrr", "ndcg", "context_precision", "k"} or None; "faults": {"wrong",
        "retriever", "withheld", "reader"}: answerable rows that were answered wrongly, and of those
        the ones whose document was not shown, the ones whose answer was not let pass for want of
        support, and the others; "citations": {"given", "precision", "answers", "recall"}: how many
        were given, in answers to questions without an answer too, where none can be right, and how
        many answers were given to questions that have one; "faithfulness": mean support of the
        answers given; "abstention": {"abstained",
        "unanswerable", "precision", "recall"}. What cannot be told is None.
    """
    answerable = [not abstains(str(row["reference"])) for row in rows]
    known = [
        (row, name) for row, name, yes in zip(rows, gold, answerable, strict=True) if yes and name
    ]
    ranked = [[p["document"] == name for p in row["passages"]] for row, name in known]
    # several pieces of the right document are one right document, found where the first stands
    first = [[hit and not any(hits[:at]) for at, hit in enumerate(hits)] for hits in ranked]
    wrong = [
        "retriever" if not any(hits) else "withheld" if row.get("unsupported") else "reader"
        for (row, _), hits in zip(known, ranked, strict=True)
        if float(row["score"]) < RIGHT
    ]
    given = [row for row in rows if not row["abstained"]]
    cited = [(c["document"] == name) for row, name in known for c in row["citations"]]
    cited += [
        False
        for row, yes in zip(rows, answerable, strict=True)
        if not yes
        for _ in row["citations"]
    ]
    reached = [
        any(c["document"] == name for c in row["citations"])
        for row, name in known
        if not row["abstained"]
    ]
    abstained = [yes for row, yes in zip(rows, answerable, strict=True) if row["abstained"]]
    silent = [bool(row["abstained"]) for row, yes in zip(rows, answerable, strict=True) if not yes]
    k = max((len(hits) for hits in ranked), default=0)
    return {
        "search": {
            "n": len(ranked),
            "k": k,
            "recall@1": _mean([recall_at(hits, 1, 1) for hits in first]),
            "recall@3": _mean([recall_at(hits, 1, 3) for hits in first]),
            "recall@k": _mean([recall_at(hits, 1, max(1, k)) for hits in first]),
            "mrr": _mean([reciprocal_rank(hits) for hits in ranked]),
            "ndcg": _mean([ndcg_at(hits, 1, max(1, k)) for hits in first]),
            "context_precision": _mean([context_precision(hits) for hits in ranked]),
        }
        if ranked
        else None,
        "faults": {
            "wrong": len(wrong),
            **{who: wrong.count(who) for who in ("retriever", "withheld", "reader")},
        }
        if ranked
        else None,
        "citations": {
            "given": len(cited),
            "precision": _mean(cited),
            "answers": len(reached),
            "recall": _mean(reached),
        }
        if ranked
        else None,
        "faithfulness": _mean([float(row["support"]) for row in given]),
        "abstention": {
            "abstained": len(abstained),
            "unanswerable": len(silent),
            "precision": _mean([not yes for yes in abstained]),
            "recall": _mean(silent),
        },
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
