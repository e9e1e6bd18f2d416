"""Numbers as the verdict says them: percentages with one decimal, points, seconds, row counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from luthier.verdict.formatting import plain

#: Above this, a number of rows is not advice any more.
MOST_ROWS = 100_000


def percent(fraction: float) -> str:
    """0.885 -> "88.5 %"."""
    return f"{100 * fraction + 0.0:.1f} %"


def points(fraction: float) -> str:
    """A difference without its sign: -0.07 -> "7.0 points"."""
    return f"{abs(100 * fraction):.1f} points"


def signed(fraction: float) -> str:
    """A difference with its sign: -0.07 -> "−7.0", with the minus sign."""
    return plain(100 * fraction, signed=True)


def interval_of_difference(ends: tuple[float, float]) -> str:
    """(0.021, 0.119) -> "+2.1 to +11.9"."""
    return f"{signed(ends[0])} to {signed(ends[1])}"


def interval_of_score(ends: tuple[float, float]) -> str:
    """(0.546, 0.68) -> "54.6 to 68.0 %"."""
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"


def seconds(value: float) -> str:
    """Seconds below two minutes, else minutes or hours."""
    if value >= 7200:
        return f"{value / 3600:.1f} h"
    if value >= 120:
        return f"{value / 60:.1f} min"
    if value >= 10:
        return f"{value:.0f} s"
    return f"{float(f'{value:.2g}'):g} s" if value >= 0.001 else f"{1000 * value:.2g} ms"


def listed(names: Sequence[str]) -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def round_rows(rows: float) -> int:
    """Rows to label, rounded up to two significant figures, at most MOST_ROWS."""
    if not rows < MOST_ROWS:
        return MOST_ROWS
    whole = max(1, math.ceil(rows))
    step = int(10 ** max(0, len(str(whole)) - 2))
    return min(MOST_ROWS, -(-whole // step) * step)


def more_rows(rows: int) -> str:
    """740 -> "about 740 more test examples"."""
    if rows >= MOST_ROWS:
        return f"more than {MOST_ROWS:,} more test examples"
    return f"about {rows:,} more test example{'s' if rows != 1 else ''}"


def cost(per_answer: float | None, training: float | None) -> str:
    """ "0.1 s an answer and 94 s of training", of what is known; "" when nothing is."""
    parts = []
    if per_answer is not None:
        parts.append(f"{seconds(per_answer)} an answer")
    if training:
        parts.append(f"{seconds(training)} of training")
    return " and ".join(parts)
