"""How well one column fits one field of a template: by its name, and by what is in it.

The fit is the product of two numbers from 0 to 1. The name: 1 for the field's own name, less for
another name it is known by, for a name that holds it as a word, and for no likeness at all. The
values: the share of the sampled values that have the field's form (see `template_values`), times
how much they look like it (a document is long, a label is one of few).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

from luthier.data.reading import SourceRow
from luthier.data.template_library import TemplateField
from luthier.data.template_values import (
    RefusedValueError,
    is_blank,
    read_gold,
    read_label,
    read_value,
)

#: Rows that are looked at to tell what a column holds.
SAMPLE = 500
#: Names that columns of many meanings have. The first say that it is a label, not of what; the
#: others say nothing but which side of a task it is on.
_GENERIC = frozenset(("label", "labels", "class", "category", "y", "value", "score", "type", "tag"))
_VAGUE = frozenset(("input", "output", "source", "target", "src", "tgt", "data", "value"))
_TRUTH = frozenset(("true", "false", "yes", "no"))
#: Kinds that values alone give away, whatever the column is called.
_TELLING = frozenset(("rating", "options", "tokens", "tags", "spans", "code"))
_CODE = re.compile(
    r"[;{}]\s*$|^\s*(def|class|import|from|return|for|if|while|public|var|let|const|function"
    r"|#include|func|SELECT|CREATE|INSERT)\b|\w\(.*\)|=>|==|:="
    r"|^[-+]?\s*[\w.]+\s*[-+*/]?=\s*\S",  # an assignment, also in a diff
    re.MULTILINE,
)


@dataclass(frozen=True)
class Column:
    """What a sample says of one column.

    Attributes:
        name: as the file has it.
        values: the sampled values that are not blank.
        rows: sampled rows, blank ones counted.
    """

    name: str
    values: tuple[Any, ...]
    rows: int

    @property
    def texts(self) -> list[str]:
        """Its values that are text or plain numbers, as text."""
        return [str(value) for value in self.values if isinstance(value, str | int | float)]


def look(rows: Iterable[SourceRow], most: int = SAMPLE) -> tuple[Column, ...]:
    """The columns of the first `most` rows, in the order in which they appear."""
    sample = list(islice(rows, most))
    names = dict.fromkeys(name for row in sample for name in row.values)
    return tuple(
        Column(
            name,
            tuple(v for row in sample if not is_blank(v := row.values.get(name))),
            len(sample),
        )
        for name in names
    )


def fit_of(field: TemplateField, column: Column, columns: Sequence[Column]) -> float:
    """How well a column fits a field, 0 to 1; `columns` are all of the file's."""
    by_name = name_fit(field, column.name)
    if not by_name:
        # a label with meanings of its own is recognised by them
        telling = field.kind in _TELLING or bool(field.aliases) or field.guess
        by_name = 0.5 if telling else 0.0
    return by_name * value_fit(field, column, columns, by_name) if by_name else 0.0


def named_fit(field: TemplateField, column: Column, columns: Sequence[Column]) -> float:
    """The fit of a column that is taken for its name: 0 where the name says nothing."""
    by_name = name_fit(field, column.name)
    return by_name * max(0.5, value_fit(field, column, columns, by_name)) if by_name else 0.0


def name_fit(field: TemplateField, column: str) -> float:
    """How much a column's name says that it is the field."""
    plain = fold_name(column)
    if plain == fold_name(field.name):
        return 1.0
    if plain in {fold_name(name) for name in field.also}:
        return 0.6 if plain in _VAGUE else 0.8 if plain in _GENERIC else 0.9
    words = set(name_words(column))
    if words & {w for n in (field.name, *field.also) if len(w := fold_name(n)) > 3}:
        return 0.7
    return 0.0


def fold_name(name: str) -> str:
    """A column's name without case, spaces, underscores and dashes: reviewText is review_text."""
    return re.sub(r"[\W_]", "", name).lower()


def name_words(name: str) -> list[str]:
    """The words of a column's name: of "customerMessage", customer and message."""
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def value_fit(
    field: TemplateField, column: Column, columns: Sequence[Column], by_name: float
) -> float:
    """How much a column's values look like the field's, 0 to 1."""
    if not column.values:
        return 0.0
    read: list[Any] = []
    for value in column.values:
        try:
            read.append(_read(field, value, columns))
        except RefusedValueError:
            continue
    share = len(read) / len(column.values)
    if not read or (by_name < 0.6 and share < 0.95):
        return 0.0  # what is guessed from the values must hold for them
    # a column that is mostly blank leaves most rows out
    filled = len(column.values) / column.rows
    return share * (0.6 + 0.4 * filled) * _shape(field, column, read, by_name)


def _read(field: TemplateField, value: Any, columns: Sequence[Column]) -> Any:
    if field.kind == "label":
        return read_label(value, field.aliases)
    if field.kind == "gold":
        if all(_options_of(column) is None for column in columns):
            raise RefusedValueError("a choice among no options")
        text = read_value("gold", value)
        # a number or a letter must name one; a text is compared with its own row's options later
        return read_gold(text, ["."] * 26) if len(text) <= 2 else text
    return read_value(field.kind, value)


def _options_of(column: Column) -> Any:
    try:
        return read_value("options", column.values[0]) if column.values else None
    except RefusedValueError:
        return None


def _shape(field: TemplateField, column: Column, read: Sequence[Any], by_name: float) -> float:
    """How much values that have a field's form also look like it."""
    texts = [value if isinstance(value, str) else str(value) for value in read]
    length = median(map(len, texts))
    few = len(set(texts)) <= max(2, len(texts) // 4) or (len(texts) < 12 and by_name >= 0.8)
    wordy = sum(" " in text.strip() for text in texts) / len(texts)
    numbers = all(re.fullmatch(r"-?\d+(\.\d+)?", text) for text in texts[:50])
    match field.kind:
        case "document":
            return next(f for least, f in ((250, 1.0), (80, 0.9), (25, 0.7), (0, 0.3))
                        if length >= least)  # fmt: skip
        case "text":
            if numbers:
                return 0.1
            # a name that says so is believed unless the values are single words or labels
            return 1.0 if wordy >= 0.5 else 0.8 if by_name >= 0.9 else 0.3
        case "line":
            return 0.3 if length > 160 or numbers else 1.0
        case "label":
            if field.aliases:
                raw = {str(value).lower() for value in column.values}
                telling = any(re.search(r"[a-z]{2}", value) for value in raw - _TRUTH)
                # 0 and 1, or yes and no, may mean anything; the column's name has to say what
                return 1.0 if telling or by_name == 1.0 else 0.6 if by_name >= 0.6 else 0.0
            return 1.0 if few and length <= 60 else 0.35 if length <= 60 else 0.1
        case "rating":
            whole = sum(float(value) * 2 == int(float(value) * 2) for value in read)
            return whole / len(read) if len(set(texts)) >= 2 or by_name >= 0.8 else 0.4
        case "code":
            return max(0.2, sum(bool(_CODE.search(text)) for text in texts) / len(texts))
        case "list" | "dialogue":
            structured = any(not isinstance(value, str) for value in column.values)
            return 1.0 if structured else 0.8
        case "tokens":
            return 1.0 if any(not isinstance(value, str) for value in column.values) else 0.5
        case _:
            return 1.0
