"""What deciding on splits needs to know of the rows: a few short values of each.

The rows themselves may lie on disk, and so do these columns where there are many rows (`column`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from luthier.data.column import Column
from luthier.data.examples import Conversation, Example
from luthier.data.folding import fold
from luthier.data.names import HashNames, Names
from luthier.data.near_duplicates import NEAR, Nearness, twin_columns
from luthier.data.numbered import Numbering
from luthier.data.stratify import Classes, LabelSets
from luthier.data.times import Times
from luthier.data.wording import OF_TASK, Wording
from luthier.data.words import folded_words
from luthier.errors import InputError, did_you_mean
from luthier.progress import Reporter
from luthier.task_sections import Split

_ONLY_EQUAL = Nearness(share=0.0)


@dataclass(frozen=True)
class Columns:
    """Short values of the rows that are split, one column each.

    Attributes:
        ids: unique names.
        classes: what is stratified by, or None; of a row with several labels the last in order.
        several: the labels of each row where rows have more than one, else None.
        groups: the first row of each row's group, which stays together; -1 for a row that stands
            alone.
        equal: the first row with the same input up to case, space and punctuation.
        near: the first row with an equal input or a near-duplicate, also through others.
        times: seconds since 1970, or None.
        said: how the cut is spoken of.
    """

    ids: HashNames | Names
    classes: Classes | None
    several: LabelSets | None
    groups: Column
    equal: Column
    near: Column
    times: Column | None
    said: Wording = OF_TASK

    def __len__(self) -> int:
        return len(self.groups)


def columns_of(
    examples: Iterable[Example],
    split: Split,
    *,
    stratify: bool,
    hashed: bool = False,
    reporter: Reporter | None = None,
    said: Wording = OF_TASK,
) -> Columns:
    """The columns of the rows that are cut.

    Args:
        examples: gone through once, in order.
        split: names the columns, and says whether near-duplicates are looked for.
        stratify: by the outputs, where `split` names no column.
        hashed: the ids are the first 16 hex digits of hashes of the rows' content, and not unique.
        reporter: hears how far the search for near-duplicates is.
        said: how the cut is spoken of.

    Raises:
        InputError: a column that the rows do not have, or times that cannot be read.
    """
    names, hashes = Names(), Column(np.uint64)
    groups = Numbering()
    kinds: dict[tuple[str, ...], int] = {}
    kind_of = Column(np.int32)
    times = Times()

    def noted() -> Iterator[str]:
        for example in examples:
            if hashed:
                hashes.add(int(example.id, 16))
            else:
                names.add(example.id)
            groups.add(example.group)
            if split.stratify is not None:
                named = _labels(_value(example, split.stratify, said.key.format("stratify")))
                kind_of.add(kinds.setdefault(named, len(kinds)))
            elif stratify:
                kind_of.add(kinds.setdefault((example.output,), len(kinds)))
            if split.time is not None:
                times.add(_value(example, split.time, said.key.format("time")), example.source)
            yield text_of(example.messages)

    nearness = _ONLY_EQUAL if split.near_duplicates is False else NEAR
    equal, near = twin_columns(noted(), nearness, reporter)
    classes, several = _stratified(tuple(kinds), kind_of)
    return Columns(
        ids=HashNames(hashes) if hashed else names,
        classes=classes,
        several=several,
        groups=groups.codes(),
        equal=equal,
        near=near,
        said=said,
        times=times.read(f"{said.key.format('time')}: {split.time}") if len(times) else None,
    )


def _stratified(
    kinds: tuple[tuple[str, ...], ...], codes: Column
) -> tuple[Classes | None, LabelSets | None]:
    """(the class of each row, its labels where rows have more or less than one) of the different
    sets of labels and the set of each row."""
    if not kinds:
        return None, None
    last = tuple(kind[-1] if kind else "" for kind in kinds)
    ordered = tuple(sorted(set(last)))
    number = {name: place for place, name in enumerate(ordered)}
    table = np.array([number[name] for name in last], np.int32)
    classes = Classes(ordered, Column.of(np.int32, (table[b] for _, b in codes.blocks())))
    if all(len(kind) == 1 for kind in kinds):
        return classes, None
    names = tuple(sorted({label for kind in kinds for label in kind}))
    place = {name: number for number, name in enumerate(names)}
    sets = tuple(tuple(place[label] for label in kind) for kind in kinds)
    return classes, LabelSets(names, sets, codes)


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
            f"`{key}` names the column {column!r}, which {example.source} does not "
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
