"""What the same questions were answered before and after training.

"Training had no effect" is the commonest complaint about fine-tuning, and it is found out late. So
every stage asks a handful of questions twice, with one prompt, and writes down what it got.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthier.data.examples import Example
from luthier.errors import InputError, LuthierError
from luthier.generation.answers import Answer
from luthier.generation.local import Generator
from luthier.generation.options import Stopping
from luthier.prompts.prompt import Prompt
from luthier.training.samples_file import SAMPLES

__all__ = ["NOT_ASKED", "SAMPLES", "Samples"]

#: What a stage notes whose objective writes no answers.
NOT_ASKED = "No questions were asked before and after: this objective writes no answers."
#: How many questions are asked.
QUESTIONS = 5
#: The most tokens of one answer; a few more than the references need, so that it stays quick.
_MOST_TOKENS, _FEWEST_TOKENS, _MORE_TOKENS = 48, 12, 8


class Samples:
    """A few questions, asked of a model before and after it is trained. Greedy, short answers.

    Args:
        prompt: what training and both answers use.
        validation: where the questions come from, else from `train`.
        train: the training examples.
        context_length: tokens the model can hold; longer questions are passed over.

    Attributes:
        note: why there are none, or "".
    """

    def __init__(
        self,
        prompt: Prompt,
        validation: Sequence[Example],
        train: Sequence[Example],
        context_length: int,
    ) -> None:
        self.prompt = prompt
        self.split = "validation" if validation else "training"
        self.examples: list[Example] = []
        self._prompts: list[list[int]] = []
        room = context_length - _MOST_TOKENS
        for example in _spread(validation or train):
            try:
                ids = prompt.ask(example.messages)
            except InputError:  # a conversation that cannot be asked, only taught
                continue
            if len(ids) <= room:
                self.examples.append(example)
                self._prompts.append(ids)
            if len(self.examples) == QUESTIONS:
                break
        needed = max((len(prompt.answer_ids(e.output)) for e in self.examples), default=0)
        most = min(_MOST_TOKENS, max(_FEWEST_TOKENS, needed + _MORE_TOKENS))
        self._stopping = Stopping(
            frozenset(prompt.stop_ids), tuple(prompt.stop_strings), max_new_tokens=most
        )
        self.note = "" if self.examples else "No question was short enough to be asked."

    def ask(self, model: Any, tokenizer: Any) -> list[Answer]:
        """The model's answers; it is left in evaluation mode.

        Args:
            model: a causal LM, with whatever training has put beside its weights.
            tokenizer: its tokenizer.
        """
        if not self._prompts:
            return []
        try:
            return Generator(model, tokenizer).generate(self._prompts, self._stopping)
        except (LuthierError, MemoryError, RuntimeError) as error:
            # a look at a model must not cost the training that made it
            self.examples, self._prompts = [], []
            self.note = f"The questions could not be asked: {str(error).splitlines()[0][:200]}"
            return []

    def compared(
        self, before: Sequence[Answer], after: Sequence[Answer], weights: dict[str, Any]
    ) -> dict[str, Any]:
        """What samples.json holds.

        Args:
            before, after: of `ask`.
            weights: of `Movement.measure`.
        """
        pairs = zip(self.examples, before, after, strict=True) if self.examples else ()
        rows = [
            {
                "id": example.id,
                "input": example.input,
                "reference": example.output,
                "before": one.text,
                "before_cut": one.finish_reason == "length",
                "after": two.text,
                "after_cut": two.finish_reason == "length",
                "changed": one.text != two.text,
            }
            for example, one, two in pairs
        ]
        changed = sum(bool(row["changed"]) for row in rows)
        return {
            "split": self.split,
            "rows": rows,
            "changed": changed,
            "share_changed": changed / len(rows) if rows else None,
            "weights": weights,
            "note": self.note,
            "warning": _warning(rows, changed, weights),
        }


def _spread(examples: Sequence[Example]) -> list[Example]:
    """All examples, those first that are spread evenly, so that five are not all of one kind."""
    step = max(1, len(examples) // QUESTIONS)
    first = list(examples[::step])
    return [*first, *(e for i, e in enumerate(examples) if i % step)]


def _warning(rows: Sequence[dict[str, Any]], changed: int, weights: dict[str, Any]) -> str:
    """What a reader must be told, or ""."""
    if not rows or changed:
        return ""
    if all(row["before"].strip() == row["reference"].strip() for row in rows):
        return ""  # there was nothing to learn on these
    relative = weights.get("relative")
    moved = f" The weights moved by {relative:.2g} of their norm." if relative is not None else ""
    return (
        f"Training changed none of {len(rows)} sampled answers.{moved} Raise "
        "training.learning_rate or training.epochs, or see that data.output says what is to be "
        "learned."
    )
