"""Rows that come from few authors, threads or documents."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from luthier.data.examples import Example
from luthier.data.linting import LINTS, Finding, LintContext, shortened, sources

#: Columns that usually say who wrote a row or what it was cut from.
COLUMNS = (
    "user", "user_id", "userid", "username", "author", "author_id", "annotator", "annotator_id",
    "speaker", "writer", "reviewerID", "reviewer", "customer", "customer_id", "thread",
    "thread_id", "conversation", "conversation_id", "document", "document_id", "doc_id", "url",
    "asin", "product", "product_id", "channel", "source_file",
)  # fmt: skip
#: Fewest training rows that are looked at.
FEWEST = 100
#: The share of rows from which one value, or the largest twentieth of at least twenty, is much.
ONE, TWENTIETH = 0.2, 0.5
#: Rows a value must have on average, to be a source and no serial number.
RECURS = 1.5


@LINTS.register("concentration")
def concentration(context: LintContext) -> Iterator[Finding]:
    """One author, thread or document with a large part of the training rows.

    A model learns the habits of whoever wrote most of its rows.
    """
    train = context.splits.train
    if len(train) < FEWEST:
        return
    for column, values in _columns(train, context.task.data.group).items():
        counts = Counter(values[index] for index in values)
        rows = sum(counts.values())
        if rows < FEWEST or len(counts) < 2 or rows < RECURS * len(counts):
            continue
        name, most = max(counts.items(), key=lambda item: (item[1], item[0]))
        few = max(1, len(counts) // 20)
        top = sum(count for _, count in counts.most_common(few))
        # what equal shares would give is no concentration
        if most > ONE * rows and most > 3 * rows / len(counts):
            head = (
                f"{most:,} of {rows:,} training rows ({most / rows:.0%}) have "
                f"{column} = {shortened(name, 40)!r}, of {len(counts):,} values."
            )
            chosen = {name}
        elif len(counts) >= 20 and top > TWENTIETH * rows:
            head = (
                f"{few:,} of {len(counts):,} values of {column} have {top:,} of {rows:,} training "
                f"rows ({top / rows:.0%}); the largest, {shortened(name, 40)!r}, has {most:,}."
            )
            chosen = {value for value, _ in counts.most_common(few)}
        else:
            continue
        concerned = [train[index] for index, value in values.items() if value in chosen]
        yield Finding(
            "concentration",
            "note",
            len(concerned),
            sources(concerned),
            f"{head} A model learns the habits of those who wrote most of its rows.",
            f"Cap the rows of one {column}, add rows of others, or name the column as "
            "`data.group` so that at least the test is of other ones."
            if column != context.task.data.group
            else f"Cap the rows of one {column}, or add rows of others.",
        )


def _columns(train: Sequence[Example], group: str | None) -> dict[str, dict[int, str]]:
    """Column to {index of the row: value}, for the group and for columns that name a source."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for index, example in enumerate(train):
        if group is not None and example.group is not None:
            found[group][index] = example.group
        if not example.fields:
            continue
        for column in COLUMNS:
            if column != group and (value := example.fields.get(column)) not in (None, ""):
                found[column][index] = str(value)
    return dict(found)
