"""Continued pre-training: raw text, a loss on every token (adaptive tuning; Gururangan et al. 2020,
"Don't Stop Pretraining", arXiv 2004.10964)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from luthier.data.examples import Example
from luthier.prompts.rendering import TextIds
from luthier.task_training import Training
from luthier.training.batches import micro_batches
from luthier.training.method import METHODS
from luthier.training.objective import OBJECTIVES, Material
from luthier.training.objectives.sft import Item, Sft

if TYPE_CHECKING:
    from luthier.models.info import ModelInfo
    from luthier.training.config import TrainingConfig

#: Tokens of a block where the task does not say: attention's memory grows with its square.
BLOCK = 1024


@OBJECTIVES.register("pretrain")
class Pretrain(Sft):
    """The next token of documents.

    A document is tokenised once, as plain text (a role token that is spelled in it stays text).
    In front stands the tokenizer's beginning-of-sequence token where the tokenizer puts one before
    texts, else the end token, which is what a model that was pre-trained on documents one after
    another has seen in front of each; so the document's first token has something to be predicted
    from. Behind it stands the end token, which is trained.

    The ids are cut into blocks of at most `max_tokens`. Targets are shifted before the cut, so
    every token of a document is predicted exactly once, the first of a block too. A block never
    holds more than one document: nothing attends, and no loss goes, from one to another.
    """

    name = "pretrain"
    title = "Continued pre-training"
    reads = frozenset()
    raw_text = True
    writes = False

    def __init__(self) -> None:
        self._bytes = 0
        self._micro_tokens = BLOCK

    def defaults(self, *, examples: int, info: ModelInfo, method: str) -> dict[str, Any]:
        """One pass, over blocks of 1,024 tokens at most."""
        del examples
        room = info.context_length - METHODS.get(method)().positions(Training())
        return {"epochs": 1.0, "max_tokens": min(BLOCK, room)}

    def material(
        self,
        examples: Sequence[Example],
        validation: Sequence[Example],
        config: TrainingConfig,
    ) -> Material:
        """Blocks of documents; those held out have no end token, which is no part of a text."""
        made = Material([], [])
        tokens = 0
        for index, example in enumerate(examples):
            for block in self.blocks(example.output, config.max_tokens):
                made.items.append(block)
                made.kept.append(index)
                tokens += block.length
        for example in validation:
            made.held_out += self.blocks(example.output, config.max_tokens, closed=False)
        self._bytes = sum(len(_encodable(example.output)) for example in validation)
        self._micro_tokens = config.micro_tokens
        made.notes.append(
            f"{len(examples):,} documents, {tokens:,} tokens, in {len(made.items):,} blocks of at "
            f"most {config.max_tokens:,} tokens."
        )
        return made

    def blocks(self, text: str, size: int, *, closed: bool = True) -> list[Item]:
        """A document as items.

        Args:
            text: the document.
            size: the most tokens that an item reads.
            closed: whether the end token is to be predicted behind it.
        """
        start, end = boundaries(self.tokenizer)
        body = TextIds(self.tokenizer).of_text(text)
        ids = [*start, *body, *(end if closed else [])]
        reads, targets = ids[:-1], ids[1:]
        return [
            Item(reads[at : at + size], targets[at : at + size])
            for at in range(0, len(reads), size)
        ]

    @torch.no_grad()
    def measure(self, model: Any, held_out: Sequence[Item]) -> dict[str, float]:
        """Bits per byte of the held-out documents: the sum of -log2 p over their tokens, divided by
        their length in UTF-8. Unlike a loss per token it can be compared between tokenizers."""
        if not held_out or not self._bytes:
            return {}
        model.eval()
        nats = 0.0
        for part in micro_batches(range(len(held_out)), self.sizes(held_out), self._micro_tokens):
            nats += float(self.loss(model, [held_out[row] for row in part]))
        return {"bits_per_byte": nats / math.log(2) / self._bytes}

    def record(self) -> dict[str, Any]:
        """That no question was asked in training: whoever uses the model brings the prompt."""
        return super().record() | {"objective": self.name}


def boundaries(tokenizer: Any) -> tuple[list[int], list[int]]:
    """(ids in front of a document, ids behind it); see `Pretrain`."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    # the ids of a text with special tokens begin with those that the tokenizer adds
    added = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    front = bos if bos is not None and added[:1] == [bos] else eos
    if front is None:
        front = bos if bos is not None else tokenizer.pad_token_id
    return [int(front)], [] if eos is None else [int(eos)]


def _encodable(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")
