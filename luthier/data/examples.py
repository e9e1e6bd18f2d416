"""The one shape every row takes after it has been read: a conversation and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from luthier.files import hash_of

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: whose turn it is.
        content: what is said.
        weight: of an assistant's turn: what the loss of each of its tokens counts, 0 for not at
            all; None where nothing was said, which counts 1 where such turns are trained.
    """

    role: Role
    content: str
    weight: float | None = None


#: What a model is asked: turns that end with the user's. The task's instruction is not among them.
Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class Example:
    """One labelled example.

    Attributes:
        id: unique within its split; taken from the row's `id`, else made from its content.
        messages: the conversation up to the answer; the last turn is the user's.
        output: the answer that was given by people (the label, for classification). Of raw text
            (`data.text`) the document; there are no messages then.
        group: examples of one group never straddle a split; None when no group was named.
        source: where it was read, for messages to people: "data/train.csv row 12".
        fields: the row's other columns, for slices of the results.
        weight: what the loss of each token of the answer counts; see `Message.weight`.
    """

    id: str
    messages: Conversation
    output: str
    group: str | None = None
    source: str = ""
    fields: dict[str, Any] | None = None
    weight: float | None = None

    @property
    def input(self) -> str:
        """What the last user turn says; nothing where there is none."""
        return self.messages[-1].content if self.messages else ""

    def to_row(self) -> dict[str, Any]:
        """The row written to a run folder's data/*.jsonl.

        `messages` ends with the answer, so that the file can be read again with
        `data: {messages: messages}`; `input` and `output` are there for people to read.
        """
        turns = [*self.messages, Message("assistant", self.output, self.weight)]
        return {
            "id": self.id,
            "messages": [_plain(m) for m in turns],
            "input": self.input,
            "output": self.output,
            "group": self.group,
            "source": self.source,
            "fields": self.fields,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Example:
        """The inverse of `to_row`."""
        return cls(
            id=row["id"],
            messages=tuple(
                Message(m["role"], m["content"], m.get("weight")) for m in row["messages"][:-1]
            ),
            output=row["output"],
            group=row.get("group"),
            source=row.get("source", ""),
            fields=row.get("fields"),
            weight=row["messages"][-1].get("weight"),
        )


@dataclass(frozen=True)
class Splits:
    """The three parts of a task's data. Training fits, validation chooses, test is read once.

    Each is a tuple, or, where the rows are many, a sequence that reads them from a file (`stored`).
    """

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]

    def items(self) -> tuple[tuple[str, Sequence[Example]], ...]:
        """(name, examples) of each split."""
        return (("train", self.train), ("validation", self.validation), ("test", self.test))


def content_hash(examples: Sequence[Example]) -> str:
    """A hash of what the examples say, independent of where they were read."""
    return hash_of(
        [
            [e.id, [[m.role, m.content] for m in e.messages], e.output, *_weights(e)]
            for e in examples
        ]
    )


def _plain(message: Message) -> dict[str, Any]:
    said = {"role": message.role, "content": message.content}
    return said if message.weight is None else {**said, "weight": message.weight}


def _weights(example: Example) -> list[list[float | None]]:
    """The weights of the turns, where any was given: without them a hash stays what it was."""
    weights = [*(m.weight for m in example.messages), example.weight]
    return [weights] if any(weight is not None for weight in weights) else []
