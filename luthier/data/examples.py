"""The one shape every row takes after it has been read: a conversation and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from luthier.files import hash_of

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


#: What a model is asked: turns that end with the user's. The task's instruction is not among them.
Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class Example:
    """One labelled example.

    Attributes:
        id: unique within its split; taken from the row's `id`, else made from its content.
        messages: the conversation up to the answer; the last turn is the user's.
        output: the answer that was given by people (the label, for classification).
        group: examples of one group never straddle a split; None when no group was named.
        source: where it was read, for messages to people: "data/train.csv row 12".
        fields: the row's other columns, for slices of the results.
    """

    id: str
    messages: Conversation
    output: str
    group: str | None = None
    source: str = ""
    fields: dict[str, Any] | None = None

    @property
    def input(self) -> str:
        """What the last user turn says."""
        return self.messages[-1].content

    def to_row(self) -> dict[str, Any]:
        """The row written to a run folder's data/*.jsonl.

        `messages` ends with the answer, so that the file can be read again with
        `data: {messages: messages}`; `input` and `output` are there for people to read.
        """
        turns = [*self.messages, Message("assistant", self.output)]
        return {
            "id": self.id,
            "messages": [{"role": m.role, "content": m.content} for m in turns],
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
            messages=tuple(Message(m["role"], m["content"]) for m in row["messages"][:-1]),
            output=row["output"],
            group=row.get("group"),
            source=row.get("source", ""),
            fields=row.get("fields"),
        )


@dataclass(frozen=True)
class Splits:
    """The three parts of a task's data. Training fits, validation chooses, test is read once."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    def items(self) -> tuple[tuple[str, tuple[Example, ...]], ...]:
        """(name, examples) of each split."""
        return (("train", self.train), ("validation", self.validation), ("test", self.test))


def content_hash(examples: Sequence[Example]) -> str:
    """A hash of what the examples say, independent of where they were read."""
    return hash_of([[e.id, [[m.role, m.content] for m in e.messages], e.output] for e in examples])
