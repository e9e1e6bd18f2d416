"""One table of rows becomes instruction data for several tasks.

Every row of a table goes through the templates that fit it, each in one of its phrasings, and comes
out as conversations that can be trained on (`data: {messages: messages, group: group}`). The file
is read as a stream, twice: once to count its rows and to see which labels occur, once to write.
What a row becomes depends on the row, the seed and nothing else.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.column import Column, equal_runs
from luthier.data.folding import fold
from luthier.data.numbered import hash64, keyed
from luthier.data.reading import SourceRow
from luthier.data.refused import Refused
from luthier.data.template_evidence import Column as Evidence
from luthier.data.template_library import LibraryTemplate, library_template
from luthier.data.template_matching import Fit, bind, match_all
from luthier.data.template_rendering import (
    MOST_LABELS,
    BoundTemplate,
    LeftOut,
    Written,
    draw_for,
    few_labels,
    phrasing_for,
    row_key,
    share,
)
from luthier.data.template_values import is_blank
from luthier.errors import InputError
from luthier.files import write_atomically
from luthier.progress import Reporter

#: Columns that are written beside a row's own; its own columns of these names get `row_` in front.
WRITTEN = ("id", "messages", "template", "version", "phrasing", "choices", "source", "group")
#: The group of `shapes` is for data sets of exactly that shape; others say more about a table.
_SHAPES = "shapes"
#: Opens the source; called once for each reading, with what takes the rows that cannot be read.
Open = Callable[[Refused | None], Iterator[SourceRow]]


@dataclass
class Built:
    """What came of building.

    Attributes:
        rows: rows read.
        written: examples written.
        groups: distinct groups among them.
        group_by: the column that the groups are made from, or None for whole rows.
        counts: template, then phrasing, to the number of examples.
        left_out: template, then reason, to the number of rows.
        unused: rows that became no example at all.
        refused: rows that could not be read.
    """

    rows: int = 0
    written: int = 0
    groups: int = 0
    group_by: str | None = None
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    unused: int = 0
    refused: Refused = field(default_factory=Refused)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {
            "rows": self.rows,
            "written": self.written,
            "groups": self.groups,
            "group_by": self.group_by,
            "templates": {name: dict(counted) for name, counted in self.counts.items()},
            "left_out": {name: dict(counted) for name, counted in self.left_out.items() if counted},
            "unused": self.unused,
            "refused": self.refused.count,
        }


def choose(
    names: Sequence[str] | None, columns: Sequence[Evidence], given: Mapping[str, str], shown: str
) -> list[tuple[LibraryTemplate, dict[str, str]]]:
    """The templates to use, with their columns.

    Args:
        names: of templates; None for all that fit. Where several ask for the same label of the same
            columns, only the first of those is taken; templates for data sets of one exact shape
            are left to those who name them.
        columns: of the file, from `template_matching.look`.
        given: field to column, said by the user; used by the templates that have the field.
        shown: the file, for messages.

    Raises:
        InputError: a named template that does not fit, or none that fits.
    """
    if names:
        chosen = []
        for name in dict.fromkeys(names):
            template = library_template(name, "--templates")
            own = {key: column for key, column in given.items() if key in template.fields}
            chosen.append((template, bind(template, columns, own, template.name, shown)))
        _check_given(given, [template for template, _ in chosen])
        return chosen
    fits = [fit for fit in match_all(columns, given) if fit.level == "fits"]
    _check_given(given, [fit.template for fit in fits])
    taken: dict[object, LibraryTemplate] = {}
    for fit in fits:
        if fit.template.group != _SHAPES:
            taken.setdefault(_sameness(fit), fit.template)
    kept = {template.name for template in taken.values()}
    found = [(fit.template, dict(fit.columns)) for fit in fits if fit.template.name in kept]
    if not found:
        held = ", ".join(column.name for column in columns[:20])
        raise InputError(
            f"No template of the library fits {shown}. Its columns: {held}.",
            fix="Name templates with --templates and columns with --field FIELD=COLUMN; "
            f"`luthier templates list {shown}` shows what comes near.",
        )
    # as the library has them, so that the order does not depend on how well each fits
    return sorted(found, key=lambda pair: (pair[0].group, pair[0].name))


def _sameness(fit: Fit) -> object:
    """Equal for templates that ask for the same label in other words."""
    bare = fit.template.first.output.strip("{} ") in fit.template.fields
    if fit.template.kind == "classification" and bare:
        return frozenset(fit.columns.values())
    return fit.template.name


def _check_given(given: Mapping[str, str], templates: Sequence[LibraryTemplate]) -> None:
    fields = {name for template in templates for name in template.fields}
    for name in given:
        if name not in fields:
            raise InputError(
                f"`--field` gives a column for {name!r}, a field of none of the templates.",
                fix=f"Their fields: {', '.join(sorted(fields)) or 'none, since none fits'}.",
            )


def build(
    open_rows: Open,
    out: Path,
    chosen: Sequence[tuple[LibraryTemplate, Mapping[str, str]]],
    columns: Sequence[Evidence],
    *,
    per_row: int | None = None,
    weights: Mapping[str, float] | None = None,
    group: str | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Built:
    """Write instruction data to a jsonl file.

    Each line has `messages` (the user's turn, the assistant's turn), `template`, `version`,
    `phrasing`, `choices` (or null), `source` (the row it was made from), `group`, an `id`, and the
    row's own columns. Examples of one group must stay on one side of a split: by default a group
    is what has the same text in the longest column that the templates use, so that neither the
    tasks made from one row nor copies of a row straddle it.

    Args:
        open_rows: opens the source; called twice.
        out: the file; written whole or not at all.
        chosen: templates with their columns, from `choose`.
        columns: of the file, for telling which is the longest.
        per_row: how many templates a row goes through, drawn by weight; None for all.
        weights: template to weight, 1 where not given; only with `per_row`.
        group: the column that says which rows belong together.
        seed: what is drawn depends on it and on the row.
        reporter: is told how far it is.

    Raises:
        InputError: weights without `per_row` or for other templates, an unknown group column, or a
            file of which no row can be used.
    """
    names = {template.name for template, _ in chosen}
    for name in weights or {}:
        if name not in names:
            raise InputError(
                f"`--weights` names {name!r}, which is not among the templates that are used.",
                fix=f"They are {', '.join(sorted(names))}.",
            )
    if weights and per_row is None:
        raise InputError(
            "`--weights` says how templates share rows; with --per-row all each gets every row.",
            fix="Give --per-row a number, 1 for instance.",
        )
    if group is not None and group not in {column.name for column in columns}:
        raise InputError(f"`--group` names the column {group!r}, which the file does not have.")
    reporter = reporter or Reporter()
    bound = [BoundTemplate(template, where) for template, where in chosen]
    total = _first_reading(open_rows, bound, reporter)
    group_by = group or _longest(columns, bound)
    built = Built(group_by=group_by)
    for one in bound:
        built.counts[one.template.name] = Counter()
        built.left_out[one.template.name] = Counter()
    groups = Column(np.uint64)

    def write(part: Path) -> None:
        with part.open("wb") as file, reporter.work("writing", total) as bar:
            for number, row in enumerate(open_rows(built.refused), 1):
                built.rows += 1
                mark = _group_of(row, group_by, exact=group is not None)
                before = built.written
                for one, written in _write_row(row, bound, per_row, weights or {}, seed, built):
                    line = _line(number, row, one, written, mark)
                    if line is None:
                        built.left_out[one.template.name][_HALF] += 1
                        continue
                    file.write(line)
                    built.written += 1
                    built.counts[one.template.name][written.phrasing] += 1
                if built.written == before:
                    built.unused += 1
                else:
                    groups.add(hash64(mark))
                bar.advance()
        if not built.written:
            reasons = Counter[str]()
            for counted in built.left_out.values():
                reasons.update(counted)
            raise InputError(
                f"None of the {built.rows:,} rows can be used: "
                + "; ".join(f"{why} ({count:,})" for why, count in reasons.most_common(3))
                + ".",
                fix="Name other columns with --field FIELD=COLUMN.",
            )

    write_atomically(out, write)
    built.groups = sum(int(new.sum()) for _, new in equal_runs(keyed(groups)))
    return built


_HALF = "the text holds half of a character (a lone surrogate)"


def _first_reading(open_rows: Open, bound: Sequence[BoundTemplate], reporter: Reporter) -> int:
    """Count the rows, and tell the templates that need it which labels occur."""
    collecting = [one for one in bound if one.collects]
    labels: dict[int, set[str]] = {id(one): set() for one in collecting}
    total = 0
    with reporter.work("reading", 1) as bar:
        for row in open_rows(Refused()):
            total += 1
            for one in collecting:
                label = one.label_of(row)
                if label is not None and len(labels[id(one)]) <= MOST_LABELS:
                    labels[id(one)].add(label)
            if total % 10_000 == 0:
                bar.note(f"{total:,} rows")
        bar.advance()
    for one in collecting:
        one.choose_from(sorted(few_labels(labels[id(one)], one)))
    return total


def _write_row(
    row: SourceRow,
    bound: Sequence[BoundTemplate],
    per_row: int | None,
    weights: Mapping[str, float],
    seed: int,
    built: Built,
) -> Iterator[tuple[BoundTemplate, Written]]:
    """What a row becomes. With `per_row`, templates are drawn without replacement by weight: those
    with the largest u^(1/w) (Efraimidis and Spirakis 2006); one that the row does not fit gives
    its place to the next."""
    key = row_key(row)
    order: Sequence[BoundTemplate] = bound
    if per_row is not None:
        rank = {
            one.template.name: share(seed, "template", one.template.name, key)
            ** (1 / weights.get(one.template.name, 1.0))
            for one in bound
        }
        order = heapq.nlargest(len(bound), bound, key=lambda one: rank[one.template.name])
    found = 0
    for one in order:
        if found == per_row:
            break
        phrasing = phrasing_for(one.template, key, seed)
        written = one.write(row, phrasing, draw_for(one.template, key, seed))
        if isinstance(written, LeftOut):
            built.left_out[one.template.name][written.reason] += 1
            continue
        found += 1
        yield one, written


def _longest(columns: Sequence[Evidence], bound: Sequence[BoundTemplate]) -> str | None:
    """The column of text with the longest values, on average, that a template uses."""
    used = {column for one in bound for column in one.columns.values()}
    sizes = {
        column.name: sum(map(len, column.texts)) / len(column.texts)
        for column in columns
        if column.name in used and column.texts
    }
    return max(sizes, key=lambda name: sizes[name], default=None)


def _group_of(row: SourceRow, column: str | None, exact: bool) -> str:
    value = row.values.get(column) if column is not None else None
    if is_blank(value):
        return row_key(row)
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    if exact:
        return str(value)
    return hashlib.sha256(fold(text).encode("utf-8", "replace")).hexdigest()[:16]


def _line(
    number: int, row: SourceRow, one: BoundTemplate, written: Written, group: str
) -> bytes | None:
    """The line of one example; None where it holds half of a character."""
    values = {
        "id": f"{number}-{one.template.name}",
        "messages": [
            {"role": "user", "content": written.input},
            {"role": "assistant", "content": written.output},
        ],
        "template": one.template.name,
        "version": one.template.version,
        "phrasing": written.phrasing,
        "choices": written.choices,
        "source": row.source,
        "group": group,
    }
    for name, value in row.values.items():
        values[f"row_{name}" if name in WRITTEN else name] = value
    try:
        return (json.dumps(values, ensure_ascii=False, default=str) + "\n").encode()
    except UnicodeEncodeError:
        return None
