"""A few rows written with a template, to be looked at before many are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from luthier.data.reading import SourceRow
from luthier.data.template_library import LibraryTemplate
from luthier.data.template_rendering import (
    MOST_LABELS,
    BoundTemplate,
    LeftOut,
    Written,
    draw_for,
    few_labels,
    phrasing_for,
    row_key,
)


@dataclass(frozen=True)
class Trial:
    """What came of it.

    Attributes:
        written: (where the row is, what was made of it).
        left_out: reason to the number of rows passed over on the way.
        details: reason to the first row that it held for, and why.
        looked_at: rows tried.
        columns: field to column.
    """

    written: tuple[tuple[str, Written], ...]
    left_out: Mapping[str, int]
    details: Mapping[str, str]
    looked_at: int
    columns: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {
            "columns": dict(self.columns),
            "rows": [
                {
                    "source": source,
                    "phrasing": one.phrasing,
                    "input": one.input,
                    "output": one.output,
                    "choices": list(one.choices) if one.choices is not None else None,
                }
                for source, one in self.written
            ],
            "looked_at": self.looked_at,
            "left_out": dict(self.left_out),
        }


def try_rows(
    template: LibraryTemplate,
    rows: Sequence[SourceRow],
    columns: Mapping[str, str],
    most: int,
    phrasing: str | None = None,
    seed: int = 0,
    everything: Iterable[SourceRow] = (),
) -> Trial:
    """Write the first rows that the template takes.

    Args:
        template: which.
        rows: the first of a file.
        columns: field to column.
        most: how many rows to write.
        phrasing: a name or number; "all" for every wording of each row; None for the one that the
            row would get where they are mixed.
        seed: what chooses it.
        everything: all rows of the file, read only for the labels there are to choose from, where
            those are a column's; left out, they are those of `rows`.

    Raises:
        InputError: no such phrasing, or a column of too many different labels.
    """
    bound = BoundTemplate(template, columns)
    if bound.collects:
        labels: set[str] = set()
        for row in chain(rows, everything):
            label = bound.label_of(row)
            if label is not None and len(labels) <= MOST_LABELS:
                labels.add(label)
        bound.choose_from(sorted(few_labels(labels, bound)))
    fixed = None
    if phrasing not in (None, "all"):
        fixed = template.phrasing(str(phrasing), "--phrasing")
    written: list[tuple[str, Written]] = []
    left_out: Counter[str] = Counter()
    details: dict[str, str] = {}
    done = looked_at = 0
    for row in rows:
        if done == most:
            break
        looked_at += 1
        key = row_key(row)
        wordings = [fixed or phrasing_for(template, key, seed)]
        if phrasing == "all":
            wordings = list(template.phrasings.values())
        for wording in wordings:
            one = bound.write(row, wording, draw_for(template, key, seed))
            if isinstance(one, LeftOut):
                left_out[one.reason] += 1
                detail = f"{row.source}: {one.detail}" if one.detail else row.source
                details.setdefault(one.reason, detail)
                break
            written.append((row.source, one))
        else:
            done += 1
    return Trial(tuple(written), left_out, details, looked_at, bound.columns)
