"""ROUGE (Lin 2004) by the rouge-score library, and how long answers are against references.

The F-measure of each row, averaged; no stemming. On ASCII text the numbers are those of the
library's own tokenizer. That one drops every letter outside a-z, which scores a Russian or a
German text wrongly and without a word; ours keeps all letters and takes each Chinese or Japanese
character as a word. rougeLsum takes lines as sentences.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import numpy as np

from luthier.evaluation.scoring import Array, Metric, RowMean, ScoringRows, offer, ratio

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


class UnicodeTokenizer:
    """Lower-cased runs of letters and digits of any script."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return _WORD.findall(text.lower())


class Rouge(RowMean):
    """One variant of ROUGE."""

    def __init__(self, name: str, title: str, kinds: set[str]) -> None:
        self.name, self.title, self.kinds = name, title, frozenset(kinds)

    @cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer([self.name], tokenizer=UnicodeTokenizer())

    def scores(self, rows: ScoringRows) -> list[float]:
        """F-measure of each row."""
        return [
            float(self._scorer.score(reference, prediction)[self.name].fmeasure)
            for reference, prediction in zip(rows.references, rows.predictions, strict=True)
        ]

    def signature(self) -> str:
        """Variant and options."""
        return f"{self.name}|f-measure|stemmer:no|tokens:unicode words"


class LengthRatio(Metric):
    """Words of all answers / words of all references; describes and does not decide."""

    name, title, decides = "length_ratio", "length ratio", False
    kinds = frozenset({"summarization"})

    def statistics(self, rows: ScoringRows) -> Array:
        """[words of the answer, words of the reference], (n, 2)."""
        return np.array(
            [
                (len(p.split()), len(r.split()))
                for r, p in zip(rows.references, rows.predictions, strict=True)
            ],
            dtype=np.float64,
        )

    def value(self, summed: Array) -> Array:
        """The ratio; 0 when the references are empty."""
        return ratio(summed[..., 0], summed[..., 1])


offer(
    Rouge("rouge1", "ROUGE-1", {"summarization"}),
    Rouge("rouge2", "ROUGE-2", {"summarization"}),
    Rouge("rougeL", "ROUGE-L", {"summarization", "generation", "chat"}),
    Rouge("rougeLsum", "ROUGE-Lsum", {"summarization"}),
    LengthRatio(),
)
