"""A model on this machine as the judge: the likeliest of the letters it could reply with."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.evaluation.judges.asking import INSTRUCTION, LETTERS, question
from luthier.evaluation.judging import JUDGES, Duel, Judge, JudgeSettings, Preference, Progress


class LocalJudge(Judge):
    """One causal model.

    Args:
        model: a catalogue name, a folder or a hub id.

    Raises:
        ModelError: there is no such model.
    """

    def __init__(self, model: str) -> None:
        from luthier.models.heads import stop_ids
        from luthier.models.pool import ModelPool
        from luthier.prompts.prompt import Prompt

        pool = ModelPool()
        loaded = pool.causal(model)
        self.name = model
        self._generator = pool.generator(model)
        self._prompt = Prompt(
            loaded.tokenizer, instruction=INSTRUCTION, stop_ids=stop_ids(loaded.model)
        )

    def prefer(self, duels: Sequence[Duel], progress: Progress | None = None) -> list[Preference]:
        """The likeliest letter after each duel."""
        from luthier.data.examples import Message

        asked = [self._prompt.ask((Message("user", question(duel)),)) for duel in duels]
        letters = [self._prompt.answer_ids(letter) for letter in LETTERS]
        scores, _ = self._generator.score(asked, letters, progress)
        preferences = list(LETTERS.values())
        return [preferences[row.index(max(row))] for row in scores]


@JUDGES.register("local")
def make(settings: JudgeSettings) -> Judge:
    """The model named in the settings."""
    return LocalJudge(settings.model)
