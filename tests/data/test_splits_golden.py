"""Cuts, folds and files are for ever what they were: old runs can be repeated."""

from __future__ import annotations

import json

import pytest
from split_cases import CASES, GOLDEN, outcome


@pytest.mark.parametrize("way", list(CASES))
def test_the_same_cuts_as_ever(way: str) -> None:
    held = json.loads(GOLDEN.read_text("utf-8"))[way]
    assert len(held) == CASES[way]
    changed = [number for number, was in enumerate(held) if outcome(way, number) != was]
    assert changed == []
