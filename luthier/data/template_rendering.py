"""From a row to what a library template writes of it, or the reason why it writes nothing."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from luthier.data.reading import SourceRow
from luthier.data.template_library import LETTERS, LibraryTemplate, Phrasing
from luthier.data.template_values import (
    RefusedValueError,
    is_blank,
    read_gold,
    read_label,
    read_value,
)
from luthier.data.templates import RowTemplate, compile_template
from luthier.errors import InputError

#: With more choices than this a template does not list them: the list would outweigh the text.
MOST_LISTED = 40
#: Labels of one column that are told apart; a column with more is no set of choices.
MOST_LABELS = 500


@dataclass(frozen=True)
class Written:
    """What a template made of one row.

    Attributes:
        input: what the model is asked.
        output: the answer.
        choices: the answers there are to choose from; None where the answer is free text.
        phrasing: the name of the wording.
    """

    input: str
    output: str
    choices: tuple[str, ...] | None
    phrasing: str


@dataclass(frozen=True)
class LeftOut:
    """Why a row is left out: a few words that can be counted, and more for one row.

    Attributes:
        reason: the same for all rows it holds for: "`title` (column summary) is blank".
        detail: the value of this row, where that says more.
    """

    reason: str
    detail: str = ""


class BoundTemplate:
    """A template whose fields have columns: rows can be written with it.

    Args:
        template: which.
        columns: field name to column name; optional fields may be left out.
        choices: the labels that occur, for a template whose choices are a column's labels.
    """

    def __init__(
        self,
        template: LibraryTemplate,
        columns: Mapping[str, str],
        choices: Sequence[str] | None = None,
    ) -> None:
        self.template = template
        self.columns = dict(columns)
        field = template.fields.get(template.choices) if isinstance(template.choices, str) else None
        self._fixed: tuple[str, ...] | None = None
        if isinstance(template.choices, tuple):
            self._fixed = template.choices
        elif field is not None and field.kind == "label" and choices is not None:
            self._fixed = in_order(choices, field.values)

    def write(self, row: SourceRow, phrasing: Phrasing, draw: int = 0) -> Written | LeftOut:
        """What the template makes of a row.

        Args:
            row: any row; columns it lacks count as blank.
            phrasing: one of the template's.
            draw: a whole number from 0 to 9999 for templates that show one of several things.

        Raises:
            InputError: the text grew over the sandbox's limits.
        """
        values = self.read(row)
        if isinstance(values, LeftOut):
            return values
        choices = self._choices(values)
        # what a template sees: fields, and lists of choices that are short enough to be read
        seen: dict[str, Any] = dict.fromkeys(self.template.fields)
        seen |= {**values, "draw": draw, "choices": list(choices or ())[: MOST_LISTED + 1]}
        if len(seen["choices"]) > MOST_LISTED:
            seen["choices"] = []
        filled = SourceRow(seen, row.source)
        for condition, why in self.template.unless:
            test = _compiled(
                f"{{% if {condition} %}}yes{{% endif %}}", self.template.name, "unless"
            )
            if test.render(filled):
                return LeftOut(why)
        name = f"{self.template.name}, phrasing {phrasing.name}"
        asked = _compiled(phrasing.input, name, "input").render(filled).strip()
        said = _compiled(phrasing.output, name, "output").render(filled).strip()
        if not asked or not said:
            return LeftOut(f"the {'output' if asked else 'input'} is blank")
        if choices is not None and said not in choices:
            return LeftOut("the answer is none of the choices", f"{said[:60]!r}")
        return Written(asked, said, choices, phrasing.name)

    def read(self, row: SourceRow) -> dict[str, Any] | LeftOut:
        """The row's fields in the forms that templates see; blank optional ones are left out."""
        found: dict[str, Any] = {}
        template = self.template
        for name, field in template.fields.items():
            column = self.columns.get(name)
            value = row.values.get(column) if column is not None else None
            said = f"`{name}`" + (f" (column {column})" if column not in (None, name) else "")
            # an empty list of spans or of answers says something: there are none
            if is_blank(value) or (value in ([], {}) and field.kind not in ("spans", "answer")):
                if name in template.optional:
                    continue
                return LeftOut(f"{said} is blank")
            try:
                if field.kind == "label":
                    found[name] = read_label(value, field.aliases)
                elif field.kind == "gold":
                    found[name] = self._gold(value, found, row)
                else:
                    found[name] = read_value(field.kind, value)
            except RefusedValueError as error:
                return LeftOut(f"{said} is not what it should be ({field.kind})", f"it is {error}")
            if found[name] == "" and name not in template.optional:
                return LeftOut(f"{said} is blank")
        return found

    def label_of(self, row: SourceRow) -> str | None:
        """The row's label, for a template whose choices are the labels that occur."""
        if not self.collects:
            return None
        name = str(self.template.choices)
        value = row.values.get(self.columns[name])
        if is_blank(value):
            return None
        try:
            return read_label(value, self.template.fields[name].aliases)
        except RefusedValueError:
            return None

    def choose_from(self, labels: Sequence[str]) -> None:
        """Say which labels occur, where `collects`."""
        field = self.template.fields[str(self.template.choices)]
        self._fixed = in_order(labels, field.values)

    @property
    def collects(self) -> bool:
        """Whether its choices are the labels that occur in a column."""
        field = self.template.fields.get(str(self.template.choices))
        return field is not None and field.kind == "label"

    def _gold(self, value: Any, found: Mapping[str, Any], row: SourceRow) -> int:
        options = next(
            (n for n, f in self.template.fields.items() if f.kind == "options" and n in found), None
        )
        if options is None:
            raise RefusedValueError("a choice among no options")
        raw = row.values.get(self.columns[options])
        return read_gold(value, found[options], raw.get("label") if isinstance(raw, dict) else None)

    def _choices(self, values: Mapping[str, Any]) -> tuple[str, ...] | None:
        if self._fixed is not None or not _named(self.template):
            return self._fixed
        if self.template.choices == LETTERS:
            options = next(
                v for n, v in values.items() if self.template.fields[n].kind == "options"
            )
            return tuple(ascii_uppercase[: len(options)])
        held = values.get(str(self.template.choices))
        return tuple(held) if isinstance(held, list) else None


def few_labels(labels: set[str], one: BoundTemplate) -> set[str]:
    """The labels, where they are so few that they are choices.

    Raises:
        InputError: there are more than `MOST_LABELS`.
    """
    if len(labels) > MOST_LABELS:
        name = str(one.template.choices)
        raise InputError(
            f"The column {one.columns[name]} has more than {MOST_LABELS} values: that is no "
            f"{name} to choose from, as {one.template.name} needs it.",
            fix=f"Name another column with --field {name}=COLUMN, or leave "
            f"{one.template.name} out of --templates.",
        )
    return labels


def in_order(labels: Sequence[str], values: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Distinct labels: in the order of the field's meanings where it has them, else sorted."""
    held = set(labels)
    return tuple(label for label in values if label in held) if values else tuple(sorted(held))


def row_key(row: SourceRow) -> str:
    """A row's name, whatever its place in the file: its `id`, else a hash of what it holds."""
    own = row.values.get("id")
    if isinstance(own, str | int) and not isinstance(own, bool) and str(own).strip():
        return f"id:{own}"
    text = json.dumps(row.values, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def share(*parts: object) -> float:
    """A number from 0 up to 1 that looks random and is the same on any machine."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def draw_for(template: LibraryTemplate, key: str, seed: int) -> int:
    """The `draw` of a row: 0 to 9999, by the row, the template and the seed."""
    return int(10_000 * share(seed, "draw", template.name, key))


def phrasing_for(template: LibraryTemplate, key: str, seed: int) -> Phrasing:
    """The phrasing a row gets where they are mixed: by weight, by the row and the seed."""
    phrasings = list(template.phrasings.values())
    mark = share(seed, "phrasing", template.name, key) * sum(p.weight for p in phrasings)
    for phrasing in phrasings:
        mark -= phrasing.weight
        if mark < 0:
            return phrasing
    return phrasings[-1]


def _named(template: LibraryTemplate) -> bool:
    return isinstance(template.choices, str)


@functools.lru_cache(maxsize=1024)
def _compiled(text: str, name: str, what: str) -> RowTemplate:
    return compile_template(text, f"template {name}, {what}")
