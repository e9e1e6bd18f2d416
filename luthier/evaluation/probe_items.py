"""What a model is asked before and after tuning: questions with choices, gaps, and plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from luthier.files import hash_of


@dataclass(frozen=True)
class Probe:
    """One multiple-choice item.

    Attributes:
        id: unique within its source.
        area: what it is reported under: an area of the project's own probes, a file, a benchmark.
        query: what comes before every choice.
        choices: two at least.
        gold: the index of the right one.
        delimiter: stands between query and choice; scored with the choice, and not counted in its
            length.
        contexts: where given, one for each choice, in place of `query`: the choices are then
            ways of beginning what goes on alike (WinoGrande).
    """

    id: str
    area: str
    query: str
    choices: tuple[str, ...]
    gold: int
    delimiter: str = ""
    contexts: tuple[str, ...] = ()

    @property
    def chance(self) -> float:
        """How often a guess is right."""
        return 1 / len(self.choices)

    def asked(self, choice: int) -> tuple[str, str]:
        """(what is read, what is scored after it) for one choice."""
        before = self.contexts[choice] if self.contexts else self.query
        return before, self.delimiter + self.choices[choice]


@dataclass(frozen=True)
class Gap:
    """A text and how it goes on (LAMBADA): right where the model would write just that."""

    id: str
    area: str
    context: str
    continuation: str
    chance: float = 0.0


@dataclass(frozen=True)
class Passage:
    """General text, whose bits per byte are measured."""

    id: str
    area: str
    text: str


@dataclass(frozen=True)
class Probes:
    """All that a model is asked.

    Attributes:
        questions: multiple choice.
        gaps: what one continuation is right for.
        passages: text.
        notes: on what was left out, for people.
    """

    questions: tuple[Probe, ...] = ()
    gaps: tuple[Gap, ...] = ()
    passages: tuple[Passage, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def items(self) -> tuple[Probe | Gap, ...]:
        """What is answered right or wrong, in the order in which answers are kept."""
        return (*self.questions, *self.gaps)

    @property
    def characters(self) -> int:
        """Of all that is read, by one model."""
        asked = sum(
            sum(map(len, probe.contexts or (probe.query,))) + sum(map(len, probe.choices))
            for probe in self.questions
        )
        gaps = sum(len(gap.context) + len(gap.continuation) for gap in self.gaps)
        return asked + gaps + sum(len(passage.text) for passage in self.passages)

    def __add__(self, other: Probes) -> Probes:
        """Both."""
        return Probes(
            self.questions + other.questions,
            self.gaps + other.gaps,
            self.passages + other.passages,
            self.notes + other.notes,
        )

    @property
    def hash(self) -> str:
        """Names what is asked, so that answers to other probes are not taken for these."""
        said: list[dict[str, Any]] = [asdict(one) for one in (*self.items, *self.passages)]
        return hash_of(said)


def pair_ids(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids of a text and of what goes on from it, as lm-eval cuts them.

    Both are tokenised together, so that the cut falls where the model would have seen it; white
    space that ends the context belongs to the continuation. Nothing before a text is the token
    that texts start with.

    Returns:
        (context ids, at least one; continuation ids).
    """
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    start = [int(tokenizer.bos_token_id)] if starts_with_bos(tokenizer) else []
    if not kept:
        return [first_id(tokenizer)], plain_ids(tokenizer, continuation)
    before = plain_ids(tokenizer, kept)
    whole = plain_ids(tokenizer, kept + continuation)
    return start + before, whole[len(before) :]


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text without special tokens."""
    return [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]


def first_id(tokenizer: Any) -> int:
    """The token that a text without a beginning is taken to follow: BOS, else EOS."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def starts_with_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a beginning-of-sequence token before a text."""
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def spread(items: Sequence[Any], limit: int | None) -> list[Any]:
    """At most `limit` items, evenly spaced, so that a sorted file is not cut to one end of it."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]
