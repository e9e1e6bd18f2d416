"""Numbers as people read them: a space before units, a true minus sign, a dash for unknown."""

from __future__ import annotations

import math
from typing import Any

DASH = "–"
MINUS = "−"
NBSP = "\u00a0"


def number(value: Any) -> float | None:
    """`value` as a finite float; None for anything else (a string, a bool, NaN, infinity)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def pair(value: Any) -> tuple[float, float] | None:
    """`value` as (low, high); None unless it is two finite numbers."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def plain(value: float, decimals: int = 1, *, signed: bool = False) -> str:
    """Fixed decimals with thousands commas: 1,234.5; `signed` adds + to what is above zero."""
    rounded = round(value, decimals)
    if rounded == 0:
        rounded = 0.0  # never a minus in front of nothing
    text = f"{abs(rounded):,.{decimals}f}"
    if rounded < 0:
        return MINUS + text
    return f"+{text}" if signed and rounded > 0 else text


def percent(fraction: Any, decimals: int = 1) -> str:
    """0.735 -> "73.5 %". A share that is not zero never reads as zero: "< 0.1 %"."""
    value = number(fraction)
    if value is None:
        return DASH
    smallest = 10.0**-decimals
    if 0 < value * 100 < smallest / 2:
        return f"<{NBSP}{smallest:.{decimals}f}{NBSP}%"
    return f"{plain(value * 100, decimals)}{NBSP}%"


def count(value: Any) -> str:
    """1234567 -> "1,234,567"."""
    known = number(value)
    return DASH if known is None else plain(known, 0)


def compact(value: Any) -> str:
    """Three figures and a magnitude: 4884480 -> "4.88 M", 630 -> "630"."""
    known = number(value)
    if known is None:
        return DASH
    return _scaled(known, 1000.0, ("", "k", "M", "G", "T"))


def memory(value: Any) -> str:
    """A number of bytes in decimal units: 2500000000 -> "2.50 GB"."""
    known = number(value)
    if known is None:
        return DASH
    return _scaled(known, 1000.0, ("B", "kB", "MB", "GB", "TB"))


def _scaled(value: float, step: float, units: tuple[str, ...]) -> str:
    size, unit = abs(value), 0
    while unit < len(units) - 1 and size >= step * 0.9995:
        size, unit = size / step, unit + 1
    decimals = 0 if unit == 0 or size >= 99.95 else 1 if size >= 9.995 else 2
    text = plain(math.copysign(size, value), decimals)
    return f"{text}{NBSP}{units[unit]}" if units[unit] else text


def seconds(value: Any) -> str:
    """A duration: 0.104 -> "104 ms", 4.2 -> "4.2 s", 94 -> "1 min 34 s", 5400 -> "1 h 30 min"."""
    known = number(value)
    if known is None or known < 0:
        return DASH
    if known == 0:
        return f"0{NBSP}s"
    if known < 0.0005:
        return f"<{NBSP}1{NBSP}ms"
    if known < 0.9995:
        return f"{plain(known * 1000, 0 if known >= 0.00995 else 1)}{NBSP}ms"
    if known < 9.95:
        return f"{plain(known, 1)}{NBSP}s"
    whole = round(known)
    if whole < 60:
        return f"{whole}{NBSP}s"
    if whole < 3600:
        return _two(whole // 60, "min", whole % 60, "s")
    minutes = round(known / 60)
    return _two(minutes // 60, "h", minutes % 60, "min")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    text = f"{large:,}{NBSP}{large_unit}"
    return f"{text} {small}{NBSP}{small_unit}" if small else text


def p_value(value: Any) -> str:
    """Two decimals where that says enough, three near significance, "< 0.001" below."""
    known = number(value)
    if known is None:
        return DASH
    if known < 0.001:
        return f"<{NBSP}0.001"
    return f"{known:.3f}" if known < 0.0995 else f"{known:.2f}"


def figure(value: float) -> str:
    """A number of unknown size to three significant figures: 3.2104 -> "3.21"."""
    if not math.isfinite(value):
        return DASH
    if value == int(value) and abs(value) < 1e6:
        return plain(value, 0)
    return f"{value:#.3g}".rstrip(".").replace("-", MINUS)


def words(name: str) -> str:
    """A key as people say it: "macro_f1" -> "macro F1", "rougeL" -> "ROUGE-L"."""
    known = {"rougel": "ROUGE-L", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "chrf": "chrF"}
    known |= {"ece": "expected calibration error", "mcc": "Matthews correlation"}
    if name.lower() in known:
        return known[name.lower()]
    shown = {"f1": "F1", "bleu": "BLEU", "em": "exact match", "qa": "QA", "ner": "NER"}
    return " ".join(shown.get(part.lower(), part) for part in name.replace("_", " ").split())


def clip(text: str, longest: int) -> tuple[str, int]:
    """`text` cut to `longest` characters, and how many characters were left out."""
    return (text, 0) if len(text) <= longest else (text[:longest].rstrip(), len(text) - longest)


def plural(how_many: int, one: str, many: str = "") -> str:
    """`1 row`, `2 rows`, `1,200 rows`."""
    return f"{how_many:,}{NBSP}{one if how_many == 1 else many or one + 's'}"


class Scale:
    """How scores are shown: fractions as percent, anything beyond 1 as it is.

    Args:
        values: all scores and interval ends that will be shown together.
    """

    def __init__(self, values: list[float]) -> None:
        self.is_percent = all(abs(value) <= 1.0 + 1e-9 for value in values)
        self.factor = 100.0 if self.is_percent else 1.0
        self.unit = f"{NBSP}%" if self.is_percent else ""
        self.points = "points" if self.is_percent else ""

    def show(self, value: Any) -> str:
        """A score with its unit."""
        known = number(value)
        return DASH if known is None else plain(known * self.factor) + self.unit

    def tick(self, value: float) -> str:
        """A score on an axis: no more decimals than it needs."""
        scaled = round(value * self.factor, 6)
        return plain(scaled, 0 if scaled == round(scaled) else 1) + self.unit

    def interval(self, value: Any) -> str:
        """An interval of scores: "67.0 to 79.0 %"."""
        ends = pair(value)
        if ends is None:
            return DASH
        return f"{plain(ends[0] * self.factor)} to {plain(ends[1] * self.factor)}{self.unit}"

    def difference(self, value: Any) -> str:
        """A difference of scores, signed, in points (no unit)."""
        known = number(value)
        return DASH if known is None else plain(known * self.factor, signed=True)

    def difference_interval(self, value: Any) -> str:
        """An interval of differences, signed: "−5.0 to +3.0"."""
        ends = pair(value)
        if ends is None:
            return ""
        low, high = (plain(end * self.factor, signed=True) for end in ends)
        return f"{low} to {high}"
