"""BLEU (Papineni 2002) and chrF (Popović 2015) from sacreBLEU's counts for each segment.

The library cuts and counts; the formulas are repeated here over arrays so that ten thousand
resamples cost one matrix product. Over a whole test the values equal sacreBLEU's `corpus_score`
divided by 100. A row's own score is the sentence score.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import numpy as np

from luthier.evaluation.scoring import Array, Metric, ScoringRows, offer, ratio

_ORDERS = 4
_LOG_ZERO = -9999999999.0  # sacreBLEU's logarithm of zero


class SacreBleu(Metric):
    """A metric whose counts come from sacreBLEU with one reference for each row."""

    @abstractmethod
    def _make(self) -> Any: ...

    @cached_property
    def _counter(self) -> Any:
        return self._make()

    def statistics(self, rows: ScoringRows) -> Array:
        """The library's counts of each segment, (n, k)."""
        counts = self._counter._extract_corpus_statistics(
            list(rows.predictions), [list(rows.references)]
        )
        return np.array(counts, dtype=np.float64).reshape(len(rows), -1)

    def signature(self) -> str:
        """sacreBLEU's own signature: references, case, tokenizer, smoothing, version."""
        metric = self._make()
        metric.corpus_score(["a"], [["a"]])  # it wants to have scored before it signs
        return str(metric.get_signature())


class Bleu(SacreBleu):
    """Corpus BLEU-4, tokenizer 13a, exponential smoothing."""

    name, title, kinds = "bleu", "BLEU", frozenset({"translation", "generation"})

    def _make(self) -> Any:
        from sacrebleu.metrics import BLEU

        return BLEU()

    def value(self, summed: Array) -> Array:
        """From [answer length, reference length, 4 x right n-grams, 4 x n-grams]."""
        return _bleu(summed, effective_order=False)

    def row_scores(self, statistics: Array) -> Array:
        """Sentence BLEU: over the orders that a short sentence has."""
        return _bleu(statistics, effective_order=True)


def _bleu(summed: Array, *, effective_order: bool) -> Array:
    given, wanted = summed[..., 0], summed[..., 1]
    right, total = summed[..., 2 : 2 + _ORDERS], summed[..., 2 + _ORDERS :]
    # an order without n-grams ends the series
    counted = np.cumprod(total > 0, axis=-1).astype(bool)
    # exponential smoothing: the j-th order without a match counts as 1 / 2^j of a match
    misses = np.cumsum(counted & (right == 0), axis=-1)
    precisions = ratio(np.where(right > 0, right, 0.5**misses), total)
    logs = np.full(precisions.shape, _LOG_ZERO)
    np.log(precisions, out=logs, where=counted & (precisions > 0))
    if effective_order:
        mean_log = ratio(np.where(counted, logs, 0.0).sum(-1), counted.sum(-1))
    else:
        mean_log = logs.sum(-1) / _ORDERS
    brevity = np.where(given < wanted, np.exp(np.minimum(0.0, 1 - ratio(wanted, given))), 1.0)
    brevity = np.where(given > 0, brevity, 0.0)
    return np.where(right.sum(-1) > 0, brevity * np.exp(mean_log), 0.0)


class Chrf(SacreBleu):
    """chrF: character 1- to 6-grams, recall counted twice (beta 2), no word n-grams."""

    name, title = "chrf", "chrF"
    kinds = frozenset({"translation", "generation", "chat"})

    def _make(self) -> Any:
        from sacrebleu.metrics import CHRF

        return CHRF()

    def value(self, summed: Array) -> Array:
        """From [answer, reference, right n-grams] of each order."""
        given, wanted, right = (summed[..., i::3] for i in range(3))
        both = (given > 0) & (wanted > 0)
        orders = both.sum(-1)
        precision = ratio(np.where(both, ratio(right, given), 0.0).sum(-1), orders)
        recall = ratio(np.where(both, ratio(right, wanted), 0.0).sum(-1), orders)
        return ratio(5 * precision * recall, 4 * precision + recall)


offer(Bleu(), Chrf())
