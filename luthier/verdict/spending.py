"""The panels of costs: an answer and what is stored, and what arms cost in all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from luthier.evaluation.costs import BreakEven, break_even, has_prices
from luthier.task_sections import Prices
from luthier.verdict.evidence import JSON, Arm, Evidence, mapping
from luthier.verdict.formatting import DASH, NBSP, count, figure, memory, number, seconds
from luthier.verdict.lines import MOST_LINES, Drawing, Series, Ticks, line_plot
from luthier.verdict.views import Cell, Table, line_of, ranked, spending_of
from luthier.verdict.wording import listed

#: Times that are ticks: those between which people count.
_TIMES = (
    (1e-3, "1 ms"), (1e-2, "10 ms"), (1e-1, "0.1 s"), (1.0, "1 s"), (10.0, "10 s"),
    (60.0, "1 min"), (600.0, "10 min"), (3600.0, "1 h"), (36e3, "10 h"), (36e4, "100 h"),
    (36e5, "1,000 h"), (36e6, "10,000 h"),
)  # fmt: skip


@dataclass(frozen=True)
class CostDetails:
    """Median and 95th percentile of an answer, storage, energy and price.

    Attributes:
        base: what a whole copy of the base model takes, or "".
        together: names of the arms whose answers all came from one batch, or "".
    """

    table: Table
    base: str
    together: str


def cost_details(evidence: Evidence) -> CostDetails | None:
    """The table; None where nothing of it was measured."""
    arms = [arm for arm in ranked(evidence) if mapping(arm.result.get("costs"))]
    if not arms:
        return None
    held = {arm.name: mapping(arm.result.get("costs")) for arm in arms}
    columns = [
        ("Time per answer, median", lambda own: Cell(seconds(_p(own, "seconds", "p50")))),
        ("95 % within", lambda own: Cell(_slow(own))),
        ("Tokens read, median", lambda own: _tokens(own, "prompt_tokens")),
        ("Tokens written, median", lambda own: _tokens(own, "completion_tokens")),
        ("Stored for this task", lambda own: Cell(_stored(own.get("stored_bytes")))),
        ("Energy to train", lambda own: Cell(_joules(own.get("train_joules")))),
        ("Energy per answer", lambda own: Cell(_joules(own.get("joules_per_answer")))),
        ("Price of training", lambda own: Cell(_price(own.get("training_price")))),
        ("Price per 1,000 answers", lambda own: Cell(_price(own.get("price_per_answer"), 1000))),
    ]
    # what no arm has is no column
    shown = [
        (head, cell) for head, cell in columns if any(cell(held[a.name]).text != DASH for a in arms)
    ]
    if not shown:
        return None
    lines = [line_of(evidence, arm, *(cell(held[arm.name]) for _, cell in shown)) for arm in arms]
    sizes = [number(own.get("base_model_bytes")) for own in held.values()]
    known = [size for size in sizes if size]
    table = Table(
        "An answer, and what is kept of each arm", tuple(h for h, _ in shown), tuple(lines)
    )
    batched = [arm.name for arm in arms if _together(held[arm.name])]
    return CostDetails(
        table, memory(max(known)) if known else "", listed(batched) if batched else ""
    )


def _slow(own: JSON) -> str:
    return DASH if _together(own) else seconds(_p(own, "seconds", "p95"))


def _together(own: JSON) -> bool:
    """Whether all answers were computed at once, so that their times say nothing of one."""
    middle, high = (number(_p(own, "seconds", which)) for which in ("p50", "p95"))
    return middle is not None and middle == high and middle > 0


def _p(own: JSON, key: str, which: str) -> Any:
    return mapping(own.get(key)).get(which)


def _tokens(own: JSON, key: str) -> Cell:
    high = number(_p(own, key, "p95"))
    return Cell(count(_p(own, key, "p50")), f"95 % within {count(high)}" if high else "")


def _stored(value: Any) -> str:
    return "nothing" if number(value) == 0 else memory(value)


def _joules(value: Any) -> str:
    known = number(value)
    if known is None:
        return DASH
    return f"{figure(known / 1000)}{NBSP}kJ" if known >= 1000 else f"{figure(known)}{NBSP}J"


def _price(value: Any, factor: float = 1.0) -> str:
    known = number(value)
    return DASH if known is None else figure(known * factor)


def break_even_plot(evidence: Evidence, focus: Arm | None) -> Drawing | None:
    """What arms cost in all over the number of answers, both in equal factors; None where fewer
    than two can be compared. In the user's prices where the task gives some."""
    arms = [arm for arm in ranked(evidence) if arm.result.get("floor") is not True]
    arms.sort(key=lambda arm: arm is not focus)
    prices = _prices(evidence)
    known = [(arm.name, spent) for arm in arms if (spent := spending_of(arm, prices)) is not None]
    known = [(name, spent) for name, spent in known if 0 < spent.after(1) < 1e12][:MOST_LINES]
    if len(known) < 2 or focus is None or known[0][0] != focus.name:
        return None
    own = known[0][1]
    meets = [break_even(own, other) for _, other in known[1:]]
    decades = _decades(meets)
    money = has_prices(prices)
    low = min(spent.after(1) for _, spent in known)
    high = max(spent.after(10.0**decades) for _, spent in known)
    low = max(low, high * 1e-9)

    def y(value: float) -> float:
        return math.log(max(value, low) / low) / math.log(high / low)

    series = []
    for index, (name, spent) in enumerate(known):
        steps = [i / 20 for i in range(20 * decades + 1)]
        points = [(step / decades, y(spent.after(10**step))) for step in steps]
        found = [one.answers for one in meets if one.answers] if index == 0 else []
        dots = [(math.log10(n) / decades, y(spent.after(n))) for n in found if n <= 10.0**decades]
        series.append(Series(name, points, dots))
    said = "; ".join(
        f"than {name}: {_in_words(one)}" for (name, _), one in zip(known[1:], meets, strict=True)
    )
    plot = line_plot(
        series,
        across=[
            (i / decades, f"{10**i:,}") for i in range(decades + 1) if decades < 6 or i % 2 == 0
        ],
        up=_cost_ticks(low, high, y, money=money),
        words=f"Cost in all over the number of answers. {focus.name} costs less {said}.",
        identifier="plot-break-even",
    )
    return Drawing(plot, tuple(name for name, _ in known))


def _decades(meets: list[BreakEven]) -> int:
    """Powers of ten of answers: to beyond the last point at which lines cross, 10,000 at least."""
    most = max([one.answers for one in meets if one.answers], default=1.0)
    return min(8, max(4, math.ceil(math.log10(most) + 0.3)))


def _in_words(one: BreakEven) -> str:
    return one.when if one.answers is None else f"{one.when} about {one.answers:,.0f} answers"


def _cost_ticks(low: float, high: float, y: Any, *, money: bool) -> Ticks:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    known = [(10.0**i, f"{10.0**i:,.10g}") for i in range(first, last + 1)] if money else _TIMES
    inside = [(value, said) for value, said in known if low <= value <= high]
    every = max(1, math.ceil(len(inside) / 6))
    return [(y(value), said) for value, said in inside[::every]]


def priced(evidence: Evidence) -> bool:
    """Whether costs are prices, not seconds."""
    return has_prices(_prices(evidence))


def _prices(evidence: Evidence) -> Prices:
    """The task's prices; none where the task file of the run holds none that can be read."""
    try:
        return Prices.model_validate(mapping(evidence.task.get("prices")))
    except ValidationError:
        return Prices()
