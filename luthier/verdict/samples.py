"""The panel of a tuned arm that shows at once whether training did anything."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.verdict.evidence import JSON, dicts, mapping, text
from luthier.verdict.formatting import clip, number, percent, plural

#: Characters of a question, of an answer, and rows and tensors that are shown.
_QUESTION, _ANSWER, _ROWS, _TENSORS = 280, 240, 8, 3


@dataclass(frozen=True)
class Pair:
    """One question and its two answers; `state` is changed or same."""

    question: str
    reference: str
    before: str
    after: str
    state: str


@dataclass(frozen=True)
class Panel:
    """What training did to a few answers and to the weights.

    Attributes:
        pairs: questions with their answers.
        summary: how many changed.
        weights: how far the weights moved, in a sentence.
        tensors: (name, share) of those that moved furthest.
        warning: what a reader must be told.
        note: why something is not there.
    """

    pairs: tuple[Pair, ...]
    summary: str
    weights: str
    tensors: tuple[tuple[str, str], ...]
    warning: str
    note: str


def panel_of(held: JSON) -> Panel | None:
    """The panel of an arm's samples.json; None where there is none."""
    rows = dicts(held.get("rows"))
    note = text(held.get("note"))
    moved = mapping(held.get("weights"))
    if not rows and not note and not moved:
        return None
    changed = sum(row.get("changed") is True for row in rows)
    split = text(held.get("split")) or "validation"
    summary = ""
    if rows:
        share = percent(changed / len(rows), 0)
        summary = (
            f"Training changed {changed:,} of {plural(len(rows), 'answer')} ({share}) to "
            f"{split} questions, asked with the same prompt."
        )
    relative = number(moved.get("relative"))
    tensors = [
        (text(item.get("tensor")), percent(item.get("relative"), 2))
        for item in dicts(moved.get("largest"))[:_TENSORS]
    ]
    return Panel(
        pairs=tuple(_pair(row) for row in rows[:_ROWS]),
        summary=summary,
        weights=""
        if relative is None
        else f"The weights it changed moved by {percent(relative, 2)} of their norm.",
        tensors=tuple(tensors),
        warning=text(held.get("warning")),
        note=note,
    )


def _pair(row: JSON) -> Pair:
    return Pair(
        question=_short(row.get("input"), _QUESTION),
        reference=_short(row.get("reference"), _ANSWER),
        before=_short(row.get("before"), _ANSWER, row.get("before_cut") is True),
        after=_short(row.get("after"), _ANSWER, row.get("after_cut") is True),
        state="changed" if row.get("changed") is True else "same",
    )


def _short(value: object, longest: int, unfinished: bool = False) -> str:
    shown, left_out = clip(text(value).strip(), longest)
    return f"{shown} …" if left_out or unfinished else shown
