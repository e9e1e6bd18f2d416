"""Which training rows are looked at, and what of them: answers behind their questions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from luthier.data.examples import Example
from luthier.errors import LuthierError
from luthier.evaluation.memorisation.extraction import (
    TOKENS,
    own_tokens,
    target_start,
    windows,
)
from luthier.evaluation.memorisation.regurgitation import Value, values_in
from luthier.evaluation.probe_items import pair_ids
from luthier.prompts.prompt import Prompt

#: Rows of each kind: training rows at random, held-out rows at random, training rows at risk.
MOST_ROWS = 100
#: Values of personal data that are tried.
MOST_VALUES = 100
#: Training rows in which it is looked for what stands elsewhere.
MOST_SEEN = 5_000


@dataclass(frozen=True, eq=False)
class Row:
    """An example as the model reads it.

    Attributes:
        example: what it was made of.
        asked: ids up to the answer.
        answer: ids of the answer with what closes it.
        own: of the target, see `extraction.own_tokens`.
    """

    example: Example
    asked: list[int]
    answer: list[int]
    own: NDArray[np.bool_]

    @property
    def start(self) -> int:
        """Where the target begins in the answer."""
        return target_start(len(self.written))

    @property
    def written(self) -> list[int]:
        """The answer without its last token, the stop, which every answer has."""
        return self.answer[:-1]


@dataclass(frozen=True, eq=False)
class Sample:
    """What is looked at.

    Attributes:
        members: distinct training rows; the first `random` of them were drawn at random, the
            others are those that are repeated most or hold personal data.
        held_out: rows of the same source.
        values: personal data, by the rows of `members`.
        value_ids: for each (what comes before it, the value), token ids.
    """

    members: list[Row]
    random: int
    held_out: list[Row]
    values: list[Value]
    value_ids: list[tuple[list[int], list[int]]]


def sample(
    prompt: Prompt,
    train: Sequence[Example],
    held_out: Sequence[Example],
    *,
    longest: int,
    seed: int,
) -> Sample:
    """Choose what is looked at.

    Args:
        prompt: as the model was trained with it.
        train: training rows, repeated ones as often as they are there.
        held_out: rows it was not trained on; those that say what a training row says are left out.
        longest: tokens that a row may have.
        seed: of the choice.
    """
    draw = random.Random(seed)
    counts = Counter(map(_said, train))
    first = {_said(example): example for example in reversed(train)}
    distinct = [first[said] for said in counts]
    order = list(range(len(distinct)))
    draw.shuffle(order)
    picked = order[:MOST_ROWS]
    values = values_in(distinct, prompt.instruction, [e.output for e in held_out])
    with_values = dict.fromkeys(value.row for value in values)
    repeated = sorted(
        (row for row in order if counts[_said(distinct[row])] > 1),
        key=lambda row: -counts[_said(distinct[row])],
    )
    risky = [row for row in dict.fromkeys([*repeated, *with_values]) if row not in set(picked)]
    picked += risky[:MOST_ROWS]
    others = list({_said(e): e for e in held_out if _said(e) not in counts}.values())
    draw.shuffle(others)

    read = {row: _row(prompt, distinct[row], longest) for row in order[:MOST_SEEN] + picked}
    aside = [made for one in others[:MOST_ROWS] if (made := _row(prompt, one, longest))]
    once, seen = _seen([one for one in read.values() if one])
    for one in aside:
        seen |= windows(one.written)
    members: list[Row] = []
    places: dict[int, int] = {}
    fitting = 0
    for number, row in enumerate(picked):
        built = read[row]
        if built is None:
            continue
        places[row] = len(members)
        members.append(_owning(built, seen))
        fitting += number < min(MOST_ROWS, len(order))
    kept = [
        Value(places[value.row], value.start, value.end, value.kind)
        for value in values
        if value.row in places
    ][:MOST_VALUES]
    return Sample(
        members,
        fitting,
        [_owning(one, once) for one in aside],
        kept,
        [_value_ids(prompt, members[value.row], value) for value in kept],
    )


def _owning(row: Row, elsewhere: set[tuple[int, ...]]) -> Row:
    target = row.written[row.start : row.start + TOKENS]
    return replace(row, own=own_tokens(target, elsewhere, windows(row.asked)))


def _said(example: Example) -> tuple[str, ...]:
    return (*(message.content.strip() for message in example.messages), example.output.strip())


def _row(prompt: Prompt, example: Example, longest: int) -> Row | None:
    """The example in tokens; None where it cannot be read by itself or is too long."""
    try:
        asked = prompt.ask(example.messages)
    except LuthierError:
        return None
    answer = prompt.answer_ids(example.output)
    if len(asked) + len(answer) > longest or len(answer) < 2:
        return None
    return Row(example, asked, answer, np.ones(0, dtype=bool))


def _seen(rows: Sequence[Row]) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    """Runs of tokens in the answers of distinct rows: all of them, and those of more than one."""
    once: set[tuple[int, ...]] = set()
    twice: set[tuple[int, ...]] = set()
    for row in rows:
        own = windows(row.written)
        twice |= once & own
        once |= own
    return once, twice


def _value_ids(prompt: Prompt, row: Row, value: Value) -> tuple[list[int], list[int]]:
    output = row.example.output
    before, said = output[: value.start], output[value.start : value.end]
    if not before.strip():
        return row.asked, prompt.answer_ids(said)[: -len(prompt.closing_ids)]
    context, target = pair_ids(prompt.tokenizer, before.lstrip(), said)
    return [*row.asked, *context], target
