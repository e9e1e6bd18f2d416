"""Pairs of a chosen and a rejected answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from luthier.data.examples import Example
from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources

#: Fewest pairs that say something about lengths.
FEWEST = 30
#: The share of pairs with the longer answer chosen from which length is what is learned.
MOSTLY = 0.7


def pair_of(example: Example) -> tuple[str, str] | None:
    """(chosen, rejected) of a row that has both; None for other rows.

    `rejected` is a column beside the input and the output; `chosen` is one too, or the output.
    """
    fields = example.fields or {}
    if "rejected" not in fields:
        return None
    chosen = answer_text(fields.get("chosen", example.output))
    rejected = answer_text(fields["rejected"])
    return None if chosen is None or rejected is None else (chosen, rejected)


def answer_text(value: Any) -> str | None:
    """The answer in a cell: text, a turn with `content` or `value`, or the last of several."""
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, Mapping):
        value = value.get("content", value.get("value"))
    return value.strip() if isinstance(value, str) else None


@LINTS.register("preference_pairs")
def preference_pairs(context: LintContext) -> Iterator[Finding]:
    """Chosen answers that equal the rejected one, and pairs that length alone decides."""
    pairs = [
        (example, *both)
        for example in context.splits.train
        if example.fields and (both := pair_of(example)) is not None
    ]
    if not pairs:
        return
    same = [example for example, chosen, rejected in pairs if chosen == rejected]
    if same:
        yield Finding(
            "preference_pairs",
            "warning",
            len(same),
            sources(same),
            f"{number(len(same), 'pair')} ({percent(len(same), len(pairs))}) "
            f"{'has' if len(same) == 1 else 'have'} the same text chosen and rejected, such as "
            f"{shortened(same[0].output)!r} ({same[0].source}). Nothing can be learned from them.",
            "Leave them out.",
            fixable=True,
        )
    different = [(e, len(c), len(r)) for e, c, r in pairs if len(c) != len(r)]
    longer = sum(chosen > rejected for _, chosen, rejected in different)
    if len(different) < FEWEST:
        return
    share = longer / len(different)
    side, part = ("longer", share) if share >= 0.5 else ("shorter", 1 - share)
    # a share this far from a half must not be chance: two standard errors below it
    if part - 2 * math.sqrt(part * (1 - part) / len(different)) <= 0.5 or part < MOSTLY:
        return
    rows = [e for e, chosen, rejected in different if (chosen > rejected) == (side == "longer")]
    yield Finding(
        "preference_pairs",
        "warning",
        len(rows),
        sources(rows),
        f"The {side} answer is the chosen one in {part:.0%} of {number(len(different), 'pair')}. "
        f"Always choosing the {side} one is right that often, so that is what a model can learn: "
        f"to write {'more' if side == 'longer' else 'less'}, not better.",
        "Add pairs in which the other kind is chosen, or use an objective that counts length out.",
    )
