"""Tables of costs and of forgetting over the arms of several runs."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.across.sides import Side
from luthier.verdict.evidence import Arm, mapping, text
from luthier.verdict.formatting import (
    DASH,
    compact,
    count,
    figure,
    memory,
    number,
    pair,
    plain,
    seconds,
)
from luthier.verdict.views import Cell, Line, Table, ranked


def _each(sides: Sequence[Side]) -> list[tuple[Side, Arm]]:
    return [(side, arm) for side in sides for arm in ranked(side.evidence)]


def cost_table(sides: Sequence[Side]) -> Table:
    """What each arm costs to make and to ask."""
    lines = []
    for side, arm in _each(sides):
        stored = number(mapping(arm.result.get("costs")).get("stored_bytes"))
        trained = number(arm.cost("trained_parameters"))
        took = arm.cost("train_seconds")
        cells = (
            Cell("none" if took == 0 else seconds(took)),
            Cell("none" if trained == 0 else compact(trained)),
            Cell(seconds(arm.cost("seconds_per_answer"))),
            Cell(count(arm.cost("prompt_tokens_per_answer"))),
            Cell(memory(arm.cost("peak_memory_bytes"))),
            Cell("nothing" if stored == 0 else memory(stored)),
        )
        lines.append(Line(arm.name, False, side.name, cells))
    heads = (
        "Training time",
        "Trained parameters",
        "Time per answer",
        "Prompt tokens per answer",
        "Peak memory",
        "Stored for this task",
    )
    return Table("What each arm costs, on the machine of its run", heads, tuple(lines))


def forgetting_table(sides: Sequence[Side]) -> Table | None:
    """What each tuned arm lost of general ability; None where nothing was measured."""
    lines = []
    for side, arm in _each(sides):
        found = mapping(arm.result.get("forgetting"))
        drop, ends = number(found.get("drop")), pair(found.get("interval"))
        if not found or drop is None:
            continue
        asked = sum(
            int(number(mapping(one).get("n")) or 0) for one in mapping(found.get("probes")).values()
        )
        bits = mapping(found.get("bits_per_byte"))
        before, after = number(bits.get("before")), number(bits.get("after"))
        cells = (
            Cell(
                plain(drop * 100),
                f"{plain(ends[0] * 100)} to {plain(ends[1] * 100)}" if ends else "",
            ),
            Cell(count(asked)),
            Cell(
                DASH if before is None or after is None else f"{figure(before)} → {figure(after)}"
            ),
            Cell(_memorised(arm)),
        )
        lines.append(Line(arm.name, False, side.name, cells))
    if not lines:
        return None
    heads = ("Drop, points", "Questions", "Bits per byte of text", "Rows learned by heart")
    return Table("General ability before and after training", heads, tuple(lines))


def _memorised(arm: Arm) -> str:
    found = mapping(arm.result.get("memorisation"))
    said = {"yes": "memorised", "no": "not memorised", "undecided": "undecided"}
    return said.get(text(found.get("memorised")), "not looked for")
