"""What the terminal shows while something is under way, and at its end."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from luthier import display
from luthier.training.range_test import RangeTest, growing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    return now


def written(monkeypatch: pytest.MonkeyPatch, name: str = "err", **how: Any) -> io.StringIO:
    """What a console of display.py writes from now on."""
    file = io.StringIO()
    monkeypatch.setattr(display, name, Console(file=file, highlight=False, **how))
    return file


class TestWithoutATerminal:
    def test_a_line_every_half_minute_with_the_time_left(
        self, monkeypatch: pytest.MonkeyPatch, clock: list[float]
    ) -> None:
        file = written(monkeypatch)
        with display.Display().work("training lora", 100) as bar:
            for _ in range(10):
                clock[0] += 10
                bar.note(f"loss {2 - clock[0] / 100:.1f}")
                bar.advance(10)
        # a note made after a line is of the next; 10 % take 10 s
        assert file.getvalue().splitlines() == [
            "training lora: 30% | loss 1.7 | 1:10 left",
            "training lora: 60% | loss 1.4 | 0:40 left",
            "training lora: 90% | loss 1.1 | 0:10 left",
            "training lora: done in 1:40 | loss 1.0",
        ]

    def test_short_work_says_nothing(
        self, monkeypatch: pytest.MonkeyPatch, clock: list[float]
    ) -> None:
        file = written(monkeypatch)
        with display.Display().work("reading", 3) as bar:
            for _ in range(3):
                clock[0] += 9
                bar.advance()
        assert file.getvalue() == ""

    @pytest.mark.parametrize(
        ("seconds", "said"), [(0, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (7384, "2:03:04")]
    )
    def test_times(self, seconds: float, said: str) -> None:
        assert display._clock(seconds) == said


class TestOnATerminal:
    def test_the_bar_and_what_is_said_of_it_stand_on_two_lines(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = written(monkeypatch, force_terminal=True, width=80, color_system=None)
        words = "loss 0.117 | rate 1.3e-04 | gradient 0.97 | 529 tokens/s"
        with display.Display().work("trial 2 of 8, training lora", 100) as bar:
            bar.advance(40)
            bar.note(words)
        shown = file.getvalue()
        line = next(line for line in shown.splitlines() if words in line)
        assert "training lora" not in line
        assert "40%" in shown
        assert all(len(one) < 120 for one in shown.splitlines())  # escapes are a few more


class TestTables:
    def test_answers_before_and_after(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        file = written(monkeypatch, "out", width=120)
        display.before_and_after(tmp_path)  # a stage without samples
        assert file.getvalue() == ""
        row = {
            "input": "Where\nis [bold]it[/bold]?",
            "reference": "location",
            "before": "It is in the",
            "before_cut": True,
            "after": "",
            "after_cut": False,
            "changed": True,
        }
        held = {"rows": [row], "changed": 1, "split": "validation", "note": "", "weights": {}}
        (tmp_path / "samples.json").write_text(json.dumps(held))
        display.before_and_after(tmp_path)
        said = file.getvalue()
        assert "Where is [bold]it[/bold]?" in said
        assert "It is in the …" in said
        assert "(empty)" in said
        assert "Training changed 1 of 1 answers to validation questions." in said

    def test_a_range_test(self, monkeypatch: pytest.MonkeyPatch) -> None:
        file = written(monkeypatch, "out", width=120)
        rates = growing(1e-6, 1e-1, 50)
        losses = [3.0 - (i / 40 if i < 40 else 1 - (i - 40)) for i in range(50)]
        found = RangeTest("lora", 1e-3, rates, losses, losses, rates[20], rates[39], rates[20], [])
        display.range_test(found)
        said = file.getvalue()
        assert "steepest fall" in said
        assert "lowest" in said
        assert f"training.learning_rate: {rates[20]:.1e}" in said
        assert len(said.splitlines()) < 24
        flat = RangeTest("lora", 1e-3, rates, [2.0] * 50, [2.0] * 50, None, None, None, ["No."])
        display.range_test(flat)
        assert "No." in file.getvalue()
        assert file.getvalue().count("Suggested") == 1
