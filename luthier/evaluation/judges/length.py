"""A judge that prefers the longer answer: what a useless judge gets, to hold others against."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.evaluation.judging import JUDGES, Duel, Judge, JudgeSettings, Preference, Progress


class LengthJudge(Judge):
    """Counts characters."""

    name = "length"

    def prefer(self, duels: Sequence[Duel], progress: Progress | None = None) -> list[Preference]:
        """The longer answer; a tie where both are as long."""
        if progress:
            progress(len(duels))
        lengths = [len(duel.first.strip()) - len(duel.second.strip()) for duel in duels]
        return [(more > 0) - (more < 0) for more in lengths]


@JUDGES.register("length")
def make(settings: JudgeSettings) -> Judge:
    """A judge of lengths; there is nothing to set."""
    del settings
    return LengthJudge()
