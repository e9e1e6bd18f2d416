"""How a classification's rows are shared out among its labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources

#: Training rows below which a class is hardly learned.
FEW = 5
#: Share of the largest class above which the score of always naming it must be known.
LARGE = 0.7


@LINTS.register("class_balance")
def class_balance(context: LintContext) -> Iterator[Finding]:
    """Labels missing from a split, labels with few training rows, one label that outweighs all."""
    if context.labels is None:
        return
    splits = context.splits
    counts = {name: Counter(e.output for e in examples) for name, examples in splits.items()}
    train, test = counts["train"], counts["test"]
    missing = [label for label in context.labels if not train[label]]
    if missing:
        tested = sum(test[label] for label in missing)
        yield Finding(
            "class_balance",
            "warning",
            len(missing),
            (),
            f"{number(len(missing), 'label')} {'has' if len(missing) == 1 else 'have'} no training "
            f"row: {_listed(missing)}. Arms that learn from rows will never give "
            f"{'it' if len(missing) == 1 else 'them'}"
            + (f", and {number(tested, 'test row')} will be wrong." if tested else "."),
            "Add rows, or take the label out of `labels`.",
        )
    few = [label for label in context.labels if 0 < train[label] < FEW]
    if few:
        yield Finding(
            "class_balance",
            "warning",
            len(few),
            sources(e for e in splits.train if e.output in few),
            f"{number(len(few), 'label')} {'has' if len(few) == 1 else 'have'} fewer than {FEW} "
            f"training rows: {_listed([f'{label} ({train[label]})' for label in few])}. So few "
            "are learned badly and by luck.",
            "Add rows of them, raise `data.limit.train`, or merge labels.",
        )
    for name, severity in (("test", "warning"), ("validation", "note")):
        absent = [label for label in context.labels if train[label] and not counts[name][label]]
        if absent:
            yield Finding(
                "class_balance",
                "warning" if severity == "warning" else "note",
                len(absent),
                (),
                f"{number(len(absent), 'label')} {'has' if len(absent) == 1 else 'have'} no row "
                f"in {name}: {_listed(absent)}. "
                + (
                    "The result will say nothing about them."
                    if name == "test"
                    else "Choices made on validation do not see them."
                ),
                f"Add rows of them to {name}, or raise `data.limit.{name}`.",
            )
    label, count = max(test.items(), key=lambda item: (item[1], item[0]))
    total = sum(test.values())
    if len(context.labels) > 1 and count > LARGE * total:
        yield Finding(
            "class_balance",
            "warning" if count > 0.9 * total else "note",
            count,
            (),
            f"{percent(count, total)} of the test rows have the label {shortened(label)!r}: always "
            f"answering it reaches an accuracy of {count / total:.2f}, so compare with that.",
            "Decide by `metric: macro_f1`, which counts every label alike, or balance the test.",
        )


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(shortened(name) for name in names[:most]) + ", ..." * (len(names) > most)
