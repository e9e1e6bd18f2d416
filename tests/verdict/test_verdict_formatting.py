"""Numbers as people read them, and the axes they are drawn on."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.verdict import formatting, wording
from luthier.verdict.formatting import Scale
from luthier.verdict.plots import nice_ticks


def test_differences_in_sentences_have_the_same_minus_as_in_tables() -> None:
    assert wording.signed(-0.07) == "−7.0"
    assert wording.signed(0.119) == "+11.9"
    assert wording.signed(-0.0001) == wording.signed(0.0) == "0.0"
    assert wording.interval_of_difference((-0.022, 0.022)) == "−2.2 to +2.2"


@pytest.mark.parametrize(
    ("say", "value", "said"),
    [
        ("percent", 0.735, "73.5 %"),
        ("percent", 0.0, "0.0 %"),
        ("percent", 0.0002, "< 0.1 %"),
        ("percent", None, "–"),
        ("percent", math.nan, "–"),
        ("count", 4884480, "4,884,480"),
        ("count", True, "–"),
        ("compact", 4884480, "4.88 M"),
        ("compact", 139399488, "139 M"),
        ("compact", 999_600, "1.00 M"),
        ("compact", 630, "630"),
        ("memory", 2_500_000_000, "2.50 GB"),
        ("memory", 0, "0 B"),
        ("seconds", 0, "0 s"),
        ("seconds", 0.0001, "< 1 ms"),
        ("seconds", 0.006, "6.0 ms"),
        ("seconds", 0.104, "104 ms"),
        ("seconds", 0.9999, "1.0 s"),
        ("seconds", 4.2, "4.2 s"),
        ("seconds", 59.6, "1 min"),
        ("seconds", 94.2, "1 min 34 s"),
        ("seconds", 5400, "1 h 30 min"),
        ("seconds", 3599.9, "1 h"),
        ("seconds", -1, "–"),
        ("p_value", 0.0004, "< 0.001"),
        ("p_value", 0.0314, "0.031"),
        ("p_value", 0.6, "0.60"),
        ("figure", 3.2104, "3.21"),
        ("figure", -0.0005, "−0.000500"),
        ("words", "macro_f1", "macro F1"),
        ("words", "rougeL", "ROUGE-L"),
    ],
)
def test_a_number_reads_as(say: str, value: Any, said: str) -> None:
    assert getattr(formatting, say)(value).replace(formatting.NBSP, " ") == said


def test_a_scale_says_fractions_in_percent_and_other_scores_as_they_are() -> None:
    fractions = Scale([0.0, 1.0])
    assert fractions.interval([0.67, 0.79]) == "67.0 to 79.0\u00a0%"
    assert fractions.difference(-0.0851) == "−8.5"
    assert fractions.difference(-0.0001) == "0.0"
    assert fractions.difference_interval([-0.05, 0.03]) == "−5.0 to +3.0"
    assert Scale([23.4]).show(23.44) == "23.4"


@given(st.floats(0, 1e7))
def test_seconds_are_said_to_within_five_percent(value: float) -> None:
    units = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
    said = formatting.seconds(value)
    if said.startswith("<"):
        assert 0 < value < 0.001
        return
    parts = said.split(" ")
    total = 0.0
    for part in parts:
        number, unit = part.split(formatting.NBSP)
        total += float(number.replace(",", "")) * units[unit]
    assert total == pytest.approx(value, rel=0.05, abs=1e-4)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_even_and_enclose_what_is_drawn(low: float, size: float) -> None:
    ticks = nice_ticks(low, low + size)
    slack = 1e-6 * max(1.0, size)
    assert ticks[0] <= low + slack and ticks[-1] >= low + size - slack
    assert 2 <= len(ticks) <= 8
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-6)


@pytest.mark.parametrize("ends", [(0.5, 0.5), (0.9, 0.9 + 2e-16), (-1e308, 1e308), (1.0, 0.0)])
def test_ticks_of_odd_ranges_still_make_an_axis(ends: tuple[float, float]) -> None:
    ticks = nice_ticks(*ends)
    assert 2 <= len(ticks) <= 8 and ticks[0] < ticks[-1] and math.isfinite(ticks[-1] - ticks[0])
