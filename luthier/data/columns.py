"""What deciding on splits needs to know of the rows: a few short values of each.

The rows themselves may lie on disk; of a million of them these columns take some 200 MB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from luthier.data.examples import Conversation, Example
from luthier.data.folding import fold
from luthier.data.near_duplicates import NEAR, Nearness, find_twins
from luthier.data.times import parse_times
from luthier.data.words import folded_words
from luthier.errors import InputError, did_you_mean
from luthier.task_sections import Split

_ONLY_EQUAL = Nearness(share=0.0)


@dataclass(frozen=True)
class Columns:
    """Short values of the rows that are split, one list each.

    Attributes:
        ids: unique names.
        classes: what is stratified by, or None; of a row with several labels the last in order.
        several: the labels of each row where rows have more than one, else None.
        groups: rows of one group stay together; None for a row that stands alone.
        equal: rows of one number have the same input up to case, space and punctuation.
        near: rows of one number have equal inputs or near-duplicates, also through others.
        times: seconds since 1970, or None.
    """

    ids: list[str]
    classes: list[str] | None
    several: list[tuple[str, ...]] | None
    groups: list[str | None]
    equal: list[int]
    near: list[int]
    times: list[float] | None

    def __len__(self) -> int:
        return len(self.ids)


def columns_of(examples: Iterable[Example], split: Split, *, stratify: bool) -> Columns:
    """The columns of the rows that are cut.

    Args:
        examples: gone through once, in order.
        split: names the columns, and says whether near-duplicates are looked for.
        stratify: by the outputs, where `split` names no column.

    Raises:
        InputError: a column that the rows do not have, or times that cannot be read.
    """
    ids: list[str] = []
    groups: list[str | None] = []
    kinds: list[tuple[str, ...]] = []
    times: list[tuple[object, str]] = []
    words: dict[str, str] = {}  # one text object for all rows that say the same
    one_of: dict[tuple[str, ...], tuple[str, ...]] = {}

    def noted() -> Iterator[str]:
        for example in examples:
            ids.append(example.id)
            group = example.group
            groups.append(None if group is None else words.setdefault(group, group))
            if split.stratify is not None:
                named = _labels(_value(example, split.stratify, "stratify"))
                kinds.append(one_of.setdefault(named, named))
            elif stratify:
                kinds.append(one_of.setdefault((example.output,), (example.output,)))
            if split.time is not None:
                times.append((_value(example, split.time, "time"), example.source))
            yield text_of(example.messages)

    nearness = _ONLY_EQUAL if split.near_duplicates is False else NEAR
    twins = find_twins(noted(), nearness)
    several = kinds if any(len(kind) != 1 for kind in kinds) else None
    return Columns(
        ids=ids,
        classes=[kind[-1] if kind else "" for kind in kinds] if kinds else None,
        several=several,
        groups=groups,
        equal=twins.equal.tolist(),
        near=twins.cluster.tolist(),
        times=parse_times(times, f"data.split.time: {split.time}") if times else None,
    )


def text_of(messages: Conversation) -> str:
    """The text of a conversation by which inputs are compared.

    A system turn stands in it as one word, as often as there are four words after it: two rows with
    different ones are then different, and a long one that many rows share does not make them near.
    """
    if messages and messages[0].role == "system":
        rest = "\n".join(message.content for message in messages[1:])
        folded = fold(messages[0].content)
        name = f"system{_letters(folded)}"
        return f"{f'{name} ' * (1 + len(folded_words(rest).split()) // 4)}{rest}"
    return "\n".join(message.content for message in messages)


def texts_of_inputs(examples: Iterable[Example]) -> Iterator[str]:
    """`text_of` each example."""
    for example in examples:
        yield text_of(example.messages)


def _letters(text: str) -> str:
    """A hash of a text in letters alone."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return digest.translate(str.maketrans("0123456789", "ghijklmnop"))


def _value(example: Example, column: str, key: str) -> object:
    fields = example.fields or {}
    if column not in fields:
        raise InputError(
            f"`data.split.{key}` names the column {column!r}, which {example.source} does not "
            "have, or which is empty there.",
            fix=did_you_mean(column, fields) if fields else "",
        )
    return fields[column]


def _labels(value: object) -> tuple[str, ...]:
    """The labels of a row: the items of a list, also written as JSON, or the value itself."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return (str(value),)
    if isinstance(value, list | tuple):
        return tuple(sorted({str(item) for item in value}))
    return (str(value),)
