"""How often a judge finds an answer better than its reference; a tie is half a win.

What the judge said is part of the rows (`luthier.evaluation.judging`); without it there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from luthier.evaluation.scoring import RowMean, ScoringRows, offer

WIN_RATE = "win_rate"


class WinRate(RowMean):
    """Mean of 1 for a win, 0.5 for a tie and 0 for a loss against the reference."""

    name, title, kinds = WIN_RATE, "wins against the reference", frozenset({"chat", "generation"})

    def applies(self, rows: ScoringRows) -> bool:
        """Whether a judge was asked."""
        return rows.judged is not None

    def scores(self, rows: ScoringRows) -> Sequence[float]:
        """What the judge said."""
        assert rows.judged is not None
        return rows.judged

    def signature(self) -> str:
        """How it is judged."""
        return "win_rate|against:reference|places:swapped|ties:half"


offer(WinRate())
