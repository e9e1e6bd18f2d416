"""A task's rows through a template of the library: `data.template`, `data.fields`, `data.phrasing`.

Which phrasing a row gets: the template's first one (the plainest), unless `data.phrasing` names
another. With `phrasing: all` each training row gets one of them, by their weights, the row and the
seed. Validation and test rows keep one fixed phrasing all the same (`data.evaluation_phrasing`,
else the first): every arm is measured on the same questions, and the score does not move with the
luck of who was asked in which words. `evaluation_phrasing: all` asks them in mixed ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from luthier.data.examples import Conversation, Example, Message
from luthier.data.reading import SourceRow
from luthier.data.template_evidence import SAMPLE, Column, look
from luthier.data.template_library import LibraryTemplate, Phrasing, library_template
from luthier.data.template_matching import bind
from luthier.data.template_rendering import (
    BoundTemplate,
    LeftOut,
    Written,
    draw_for,
    phrasing_for,
    row_key,
)
from luthier.errors import InputError
from luthier.task_sections import Data

#: `data.phrasing: all` mixes them.
ALL = "all"


class TemplateRows:
    """The rows of one source, ready to be written with the template that `data` names.

    Args:
        rows: all of the source's; gone through several times, one row in memory at a time.
        data: names the template, and what the user says of fields and phrasings.
        labels: the labels to choose from, where known; else those that occur in the rows.

    Raises:
        InputError: no such template, field, column or phrasing.
    """

    def __init__(
        self, rows: Iterable[SourceRow], data: Data, labels: Sequence[str] | None = None
    ) -> None:
        self.template = library_template(data.template or "")
        self.where = f"data.template: {self.template.name}"
        self._fixed = evaluated_with(data, self.template)
        self._rows = rows
        seen, shown = _columns(rows)
        columns = bind(
            self.template, seen, data.fields, self.where, shown, "data.fields", by_name=True
        )
        self.bound = BoundTemplate(self.template, columns, labels)
        if self.bound.collects and labels is None:
            found = {label for row in rows if (label := self.bound.label_of(row)) is not None}
            self.bound.choose_from(sorted(found))
        self._written: dict[str, Written] = {}
        self.left_out: Counter[str] = Counter()

    def kept(self) -> Iterator[SourceRow]:
        """The rows without those the template itself leaves out; others may not be left out.

        Raises:
            InputError: at the end, for rows with a blank or unfit value in a field that is needed,
                counted by reason; or where no row is left.
        """
        own = {why for _, why in self.template.unless}
        unfit: Counter[str] = Counter()
        first: dict[str, list[tuple[str, str]]] = {}
        rows = left = 0
        for row in self._rows:
            rows += 1
            written = self.write(row, self._fixed)
            if isinstance(written, Written):
                self._written[row.source] = written
                left += 1
                yield row
            elif written.reason in own:
                self.left_out[written.reason] += 1
            else:
                unfit[written.reason] += 1
                some = first.setdefault(written.reason, [])
                some += [(row.source, written.detail)] * (len(some) < 5)
        if unfit:
            ((reason, count),) = unfit.most_common(1)
            held = first[reason]
            shown = ", ".join(source for source, _ in held) + ", ..." * (count > 5)
            detail = f", {held[0][1]}" if held[0][1] else ""
            raise InputError(
                f"`{self.where}`: {reason} in {count} of {rows} rows: {shown}{detail}.",
                fix="Mend or remove these rows, or name another column in `data.fields`; "
                "`luthier templates build` leaves such rows out and counts them.",
            )
        if not left:
            raise InputError(
                f"`{self.where}` leaves out all {rows} rows: " + "; ".join(self.left_out) + ".",
                fix=f"See `luthier templates show {self.template.name}`.",
            )

    def write(self, row: SourceRow, phrasing: Phrasing) -> Written | LeftOut:
        """What the template makes of a row; the same row gets the same `draw` in every phrasing."""
        return self.bound.write(row, phrasing, draw_for(self.template, row_key(row), 0))

    def turns(self, row: SourceRow) -> tuple[Conversation, Message]:
        """(what is asked, the answer) of one of `kept`, in the fixed phrasing."""
        written = self._written.pop(row.source, None)
        if written is None:
            again = self.write(row, self._fixed)
            if isinstance(again, LeftOut):
                raise InputError(f"`{self.where}`: {row.source}: {again.reason}.")
            written = again
        return (Message("user", written.input),), Message("assistant", written.output)

    def notes(self) -> list[str]:
        """What the user should know: which column is which field, and what was left out."""
        mapped = [f"{field} = {column}" for field, column in self.bound.columns.items()]
        plain = all(field == column for field, column in self.bound.columns.items())
        version = f"{self.template.name} version {self.template.version}"
        said = [] if plain else [f"template {version}: {', '.join(mapped)}."]
        said += [
            f"template {version}: {count:,} rows were left out: {reason}."
            for reason, count in self.left_out.most_common()
        ]
        return said


def evaluated_with(data: Data, template: LibraryTemplate) -> Phrasing:
    """The one phrasing of rows that are not mixed.

    Raises:
        InputError: `data.phrasing` or `data.evaluation_phrasing` names none of the template's.
    """
    for key in ("phrasing", "evaluation_phrasing"):
        wanted = getattr(data, key)
        if wanted is not None and wanted != ALL:
            template.phrasing(wanted, f"data.{key}")
    for key in ("evaluation_phrasing", "phrasing"):
        wanted = getattr(data, key)
        if wanted is not None and wanted != ALL:
            return template.phrasing(wanted, f"data.{key}")
    return template.first


def rephraser(
    data: Data, seed: int, train: bool
) -> Callable[[LibraryTemplate, str], Phrasing] | None:
    """How the phrasing of a row is chosen, after splitting, where it is not the fixed one.

    Args:
        data: the task's.
        seed: the task's.
        train: for training rows; else for validation and test rows.

    Returns:
        a function of the template and the row's key, or None where the fixed one stays.
    """
    wanted = data.phrasing if train else data.evaluation_phrasing
    if data.template is None or wanted is None:
        return None
    if wanted == ALL:
        return lambda template, key: phrasing_for(template, key, seed)
    if train and data.evaluation_phrasing is not None:
        return lambda template, _: template.phrasing(wanted, "data.phrasing")
    return None


def rephrase(
    examples: Sequence[Example],
    rows: Sequence[SourceRow],
    data: Data,
    labels: Sequence[str] | None,
    choose: Callable[[LibraryTemplate, str], Phrasing],
) -> tuple[Example, ...]:
    """The examples with their questions in chosen phrasings; ids, groups and order stay.

    Args:
        examples: made of `rows`, of one split.
        rows: of their source, or more.
        data: the task's.
        labels: what the templates were given to choose from.
        choose: from `rephraser`.

    Returns:
        the examples; `fields` names the phrasing of each, for slices of the results.
    """
    wanted = {example.source for example in examples}
    held = {row.source: row for row in rows if row.source in wanted}
    library = TemplateRows(list(held.values()), data, labels)
    return tuple(_rephrased(library, example, held[example.source], choose) for example in examples)


def rephrased(
    examples: Iterable[Example],
    rows: Iterable[SourceRow],
    data: Data,
    labels: Sequence[str] | None,
    choose: Callable[[LibraryTemplate, str], Phrasing],
) -> Iterator[Example]:
    """As `rephrase`, of all examples of a source in its order, one row in memory at a time.

    Args:
        examples: in the order of `rows`, of which some were left out.
        rows: gone through several times.
        data, labels, choose: as for `rephrase`.
    """
    library = TemplateRows(rows, data, labels)
    read = iter(rows)
    for example in examples:
        row = next(row for row in read if row.source == example.source)
        yield _rephrased(library, example, row, choose)


def _rephrased(
    library: TemplateRows,
    example: Example,
    row: SourceRow,
    choose: Callable[[LibraryTemplate, str], Phrasing],
) -> Example:
    phrasing = choose(library.template, row_key(row))
    written = library.write(row, phrasing)
    if isinstance(written, LeftOut):
        raise InputError(
            f"`{library.where}`, phrasing {phrasing.name}: {row.source}: {written.reason}."
        )
    asked = (*example.messages[:-1], Message("user", written.input))
    fields = {**(example.fields or {}), "phrasing": phrasing.name}
    return replace(example, messages=asked, output=written.output, fields=fields)


def labels_of_rows(data: Data) -> bool:
    """Whether the template lets the model choose among the labels that occur in a column."""
    return data.template is not None and BoundTemplate(library_template(data.template), {}).collects


def mixing_note(data: Data) -> list[str]:
    """One sentence on which phrasings the splits have, where they are mixed."""
    if data.template is None or ALL not in (data.phrasing, data.evaluation_phrasing):
        return []
    template = library_template(data.template)
    fixed = evaluated_with(data, template)
    names = f"all {len(template.phrasings)} phrasings of {template.name}"
    train = names if data.phrasing == ALL else f"phrasing {data.phrasing or fixed.name}"
    test = names if data.evaluation_phrasing == ALL else f"phrasing {fixed.name}"
    return [f"phrasing: training rows have {train}; validation and test rows have {test}."]


def fixed_labels(data: Data) -> tuple[str, ...] | None:
    """The labels of a template whose choices are its own and no column's."""
    if data.template is None:
        return None
    choices = library_template(data.template).choices
    return choices if isinstance(choices, tuple) else None


def _columns(rows: Iterable[SourceRow]) -> tuple[list[Column], str]:
    """(all columns, those of the first rows with their values, those of later rows by name; the
    file, for messages)."""
    read = iter(rows)
    sample = list(islice(read, SAMPLE))
    shown = sample[0].source.rsplit(" ", 2)[0] if sample else "the file"
    seen = list(look(sample))
    names = dict.fromkeys(column.name for column in seen)
    known = set(names)
    for row in read:
        if not known.issuperset(row.values):
            names.update(dict.fromkeys(row.values))
            known.update(row.values)
    later = list(names)[len(seen) :]
    return [*seen, *(Column(name, (), 0) for name in later)], shown
