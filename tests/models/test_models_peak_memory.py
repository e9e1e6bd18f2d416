"""Nested measurements that happen to measure the same."""

from __future__ import annotations

import pytest

from luthier.models import machine
from luthier.models.machine import PeakMemory


def test_blocks_with_equal_numbers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_resident", lambda: 1000)
    monkeypatch.setattr(machine, "_peak", lambda: 1000)
    monkeypatch.setattr(machine, "_reset_peak", lambda: True)
    with PeakMemory() as outer:
        with PeakMemory() as inner:
            pass
        monkeypatch.setattr(machine, "_peak", lambda: 3000)
    assert (inner.resident, outer.resident) == (1000, 3000)
    assert PeakMemory._open == []
