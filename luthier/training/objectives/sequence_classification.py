"""One label for a text: a head on an encoder, or on a causal model that has read the question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.examples import Conversation, Example
from luthier.errors import InputError
from luthier.models.encoder import folder_pooling
from luthier.models.encoding import sequence_ids
from luthier.models.headed import Pooling
from luthier.prompts.prompt import Prompt
from luthier.training.head_objective import HeadObjective, LabelItem
from luthier.training.objective import OBJECTIVES, Material
from luthier.training.rows import cut_to_fit

if TYPE_CHECKING:
    from luthier.models.loading import LoadedModel
    from luthier.training.config import TrainingConfig

#: Classes a classifier may have; more are free text.
MOST_LABELS = 1000


@OBJECTIVES.register("sequence-classification")
class SequenceClassification(HeadObjective):
    """Cross-entropy of one label a text.

    An encoder reads the text as its tokenizer gives it. A causal model reads the task's prompt up
    to the place where it would answer, so that its instruction counts, and its last token is
    pooled.
    """

    name = "sequence-classification"
    title = "Classification by a head"
    reads = frozenset({"pooling"})
    of = "sequence"

    def begin(self, loaded: LoadedModel, instruction: str) -> None:
        """An encoder has no prompt."""
        super().begin(loaded, instruction)
        if self.causal:
            self.prompt = Prompt(loaded.tokenizer, instruction=instruction)

    def pooling(self, config: TrainingConfig) -> Pooling:
        """What the task says; else what the encoder's folder says, or a causal model's last
        token, the only one that has read everything."""
        if config.pooling is not None:
            return config.pooling
        if self.causal:
            return "last"
        return "first" if folder_pooling(Path(self.loaded.path)) == "cls" else "mean"

    def material(
        self,
        examples: Sequence[Example],
        validation: Sequence[Example],
        config: TrainingConfig,
    ) -> Material:
        """One item for each text.

        Raises:
            InputError: fewer than two labels, or far too many; texts that are too long, where the
                task does not say what to do.
        """
        counts = Counter(example.output for example in examples)
        if len(counts) < 2:
            raise InputError("All training examples have the same label.")
        if len(counts) > MOST_LABELS:
            raise InputError(
                f"{len(counts):,} different outputs in {len(examples):,} rows are no labels.",
                fix="Check `data.output`, or leave `training.objective` out.",
            )
        self.labels = tuple(sorted(counts))
        place = {label: index for index, label in enumerate(self.labels)}
        made = Material([], [], notes=list(self.prompt.notes if self.prompt else ()))
        cut = []
        for index, example in enumerate(examples):
            ids, lost = question_ids(
                self.tokenizer, self.prompt, example.messages, config.max_tokens
            )
            if lost:
                cut.append(f"{example.source} ({lost} tokens too long)")
                if config.overlong == "drop":
                    continue
            made.items.append(LabelItem(ids, [place[example.output]]))
            made.kept.append(index)
        made.notes += _said_of(cut, config, len(made.items))
        strange = 0
        for example in validation:
            if example.output not in place:
                strange += 1
                continue
            ids, _ = question_ids(self.tokenizer, self.prompt, example.messages, config.max_tokens)
            made.held_out.append(LabelItem(ids, [place[example.output]]))
        if strange:
            made.notes.append(
                f"{strange} validation examples have a label that no training example has; the "
                "validation loss is that of the others."
            )
        return made


def question_ids(
    tokenizer: Any, prompt: Prompt | None, conversation: Conversation, longest: int
) -> tuple[list[int], int]:
    """(what a classifier reads of a conversation, how many tokens were cut off).

    Args:
        tokenizer: of the model.
        prompt: of a causal model, which reads the conversation up to its own turn; its question is
            cut at the start. None for an encoder, which reads the turns as one text, without a
            system message, cut at the end.
        conversation: ends with the user's turn.
        longest: tokens there may be.

    Raises:
        InputError: the instruction and the earlier turns alone are longer than that.
    """
    if prompt is None:
        text = "\n".join(turn.content for turn in conversation if turn.role != "system")
        return sequence_ids(tokenizer, text, longest)
    ids = prompt.ask(conversation)
    if len(ids) <= longest:
        return ids, 0
    kept = prompt.ask(cut_to_fit(prompt, conversation, longest))
    return kept, len(ids) - len(kept)


def _said_of(cut: Sequence[str], config: TrainingConfig, left: int) -> list[str]:
    if not cut:
        return []
    named = ", ".join(cut[:5]) + (" ..." if len(cut) > 5 else "")
    if config.overlong == "error":
        raise InputError(
            f"{len(cut)} training examples are longer than {config.max_tokens} tokens: {named}.",
            fix="Set training.overlong to drop or cut, or raise training.max_tokens.",
        )
    if not left:
        raise InputError(f"All training examples are longer than {config.max_tokens} tokens.")
    done = "left out" if config.overlong == "drop" else "cut"
    return [
        f"{len(cut)} training examples longer than {config.max_tokens} tokens were {done}: {named}."
    ]
