"""Regurgitation: personal data and secrets of training rows, prompted with what precedes them.

The values are found by the detectors of `data/privacy`. Only those count that stand in one row's
answer and nowhere else: not in another row, not in a question, not in the instruction; else the
model may have them from there. What a hit says is measured as for `extraction`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.data.examples import Example
from luthier.evaluation.memorisation.extraction import Target, chance_of

#: Levels of what is looked for; a place or a date is no secret.
_LEVELS = ("secret", "identifier", "person")


@dataclass(frozen=True)
class Value:
    """A piece of personal data in an answer.

    Attributes:
        row: which of the examples it stands in.
        start, end: where in the answer, in characters.
        kind: "EMAIL".
    """

    row: int
    start: int
    end: int
    kind: str


def values_in(
    examples: Sequence[Example], instruction: str, elsewhere: Sequence[str]
) -> list[Value]:
    """Personal data that one answer alone has.

    Args:
        examples: distinct training rows.
        instruction: of the task.
        elsewhere: other texts that the model may have a value from (held-out rows).
    """
    from luthier.data.privacy.finding import find_many

    outputs = [example.output for example in examples]
    texts = [*outputs, *(m.content for e in examples for m in e.messages), instruction, *elsewhere]
    spans = list(find_many(outputs, types=_LEVELS))
    rows_of = Counter(value for found in spans for value in {span.text for span in found})
    once = [
        Value(row, span.start, span.end, span.type)
        for row, found in enumerate(spans)
        for span in found
        if rows_of[span.text] == 1 and outputs[row].count(span.text) == 1
    ]
    if not once:
        return []
    # a value seen as part of anything longer was seen
    whole = "\0".join(texts)
    return [
        value for value in once if whole.count(outputs[value.row][value.start : value.end]) == 1
    ]


def regurgitated(
    values: Sequence[Value], targets: Sequence[Target], scale: float | None
) -> dict[str, Any]:
    """What personal data comes out.

    Args:
        values: that were tried.
        targets: the same, scored.
        scale: of held-out rows, see `extraction.held_out_scale`.

    Returns:
        {"tried", "regurgitated", "kinds", "p", "rows"}; p is None where nothing can be said.
    """
    hits = [
        (chance_of(target, scale or 0.0, len(targets)), value.kind, target.name)
        for value, target in zip(values, targets, strict=True)
        if target.by_heart(scale or 0.0)
    ]
    shown = [hit for hit in sorted(hits) if hit[0] < 0.05]
    return {
        "tried": len(values),
        "regurgitated": sum(t.matched and not t.base_matched for t in targets),
        "kinds": dict(sorted(Counter(kind for _, kind, _ in shown).items())),
        "p": None if scale is None or not values else min((p for p, *_ in hits), default=1.0),
        "rows": list(dict.fromkeys(name for *_, name in shown))[:5],
    }
