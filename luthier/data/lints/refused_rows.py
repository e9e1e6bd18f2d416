"""Rows that were left out because they cannot be used."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.linting import LINTS, MOST_ROWS, Finding, LintContext, number

_KINDS = 3


@LINTS.register("refused_rows")
def refused_rows(context: LintContext) -> Iterator[Finding]:
    """Rows that `data.refused: skip` left out."""
    refused = context.refused
    if not refused.count:
        return
    kinds = [f"{reason} ({count:,})" for reason, count in refused.reasons.most_common(_KINDS)]
    more = len(refused.reasons) - len(kinds)
    yield Finding(
        "refused_rows",
        "warning",
        refused.count,
        tuple(row.source for row in refused.rows[:MOST_ROWS]),
        f"{number(refused.count, 'row')} could not be used and "
        f"{'was' if refused.count == 1 else 'were'} left out: {'; '.join(kinds)}"
        + f"; {number(more, 'other reason')}" * bool(more)
        + ". What is left may say less, or something else, than the whole.",
        "List them with `luthier check TASK --refused` and mend them; `data.refused: stop` ends "
        "the work at the first.",
    )
