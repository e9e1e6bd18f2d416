"""Costs: spread, storage, prices, energy, and where two arms meet."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import InputError
from luthier.evaluation.costs import (
    Spending,
    break_even,
    has_prices,
    spending,
    spread,
    stored_bytes,
)
from luthier.models.energy import Energy
from luthier.task import Task
from luthier.task_sections import Prices

AMOUNT = st.floats(0, 1e6).map(lambda value: round(value, 3))
TASK = {
    "name": "t",
    "kind": "generation",
    "data": {"train": "a.csv", "input": "{{ a }}", "output": "{{ b }}"},
}
COSTS = {
    "train_seconds": 1800.0,
    "seconds_per_answer": 0.36,
    "prompt_tokens_per_answer": 500.0,
    "completion_tokens_per_answer": 100.0,
}


@given(AMOUNT, AMOUNT, AMOUNT, AMOUNT)
def test_totals_meet_where_it_is_said(first, each, other_first, other_each) -> None:
    one, other = Spending(first, each), Spending(other_first, other_each)
    found = break_even(one, other)
    if found.answers is None:
        for n in (1, 10, 1e9):
            gap = one.after(n) - other.after(n)
            if found.when == "always":
                assert gap <= 0
            elif found.when == "never":
                assert gap >= 0
            else:
                assert gap == 0
        return
    n = found.answers
    assert n >= 1
    if n > 1:
        assert one.after(n) == pytest.approx(other.after(n), rel=1e-6)
    before, after = (one.after(k) - other.after(k) for k in (n / 2, n * 2))
    if n > 2:
        assert (before >= 0 >= after) if found.when == "from" else (before <= 0 <= after)


def test_from_either_side_it_is_the_same_point() -> None:
    one, other = Spending(94.2, 0.104), Spending(0.0, 0.21)
    assert break_even(one, other).when == "from"
    assert break_even(one, other).answers == pytest.approx(94.2 / 0.106)
    assert break_even(other, one).when == "up to"
    assert break_even(other, one).answers == break_even(one, other).answers
    assert break_even(one, one).when == "the same"


def test_seconds_and_prices() -> None:
    assert spending(COSTS) == spending(COSTS, Prices()) == Spending(1800.0, 0.36)
    by_hour = spending(COSTS, Prices(per_hour=2.0))
    assert by_hour == Spending(pytest.approx(1.0), pytest.approx(0.0002))
    tokens = Prices(per_million_prompt_tokens=1.0, per_million_completion_tokens=10.0)
    assert spending(COSTS, tokens) == Spending(0.0, pytest.approx(0.0005 + 0.001))
    assert has_prices(Prices(per_hour=0)) and not has_prices(Prices())
    assert spending({**COSTS, "seconds_per_answer": None}) is None
    assert spending({**COSTS, "prompt_tokens_per_answer": None}, tokens) is None


def test_prices_of_a_task_are_typed() -> None:
    task = Task.from_dict({**TASK, "prices": {"per_hour": 1.5}})
    assert task.prices.per_hour == 1.5
    assert Task.from_dict(task.to_dict()).prices == task.prices
    with pytest.raises(InputError, match="per_hours") as told:
        Task.from_dict({**TASK, "prices": {"per_hours": 1}})
    assert "per_hour" in str(told.value)
    with pytest.raises(InputError, match="per_hour"):
        Task.from_dict({**TASK, "prices": {"per_hour": -1}})
    with pytest.raises(InputError, match="per_hour"):
        Task.from_dict({**TASK, "prices": {"per_hour": "cheap"}})


def test_the_spread_of_answers() -> None:
    rows = [{"seconds": i / 100, "prompt_tokens": 7} for i in range(101)]
    found = spread(rows)
    assert found["seconds"] == {"p50": pytest.approx(0.5), "p95": pytest.approx(0.95)}
    assert found["prompt_tokens"] == {"p50": 7.0, "p95": 7.0}
    assert found["completion_tokens"] is None
    assert spread([*rows, {}])["seconds"] is None and spread([])["seconds"] is None


def test_bytes_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model" / "a").write_bytes(b"x" * 100)
    (tmp_path / "model" / "inner" / "b").write_bytes(b"x" * 23)
    assert stored_bytes(tmp_path / "model") == 123
    assert stored_bytes(tmp_path / "none") == 0


def zone(folder: Path, name: str, of: str, used: int, most: int = 1_000_000_000) -> Path:
    made = folder / name
    made.mkdir(parents=True)
    (made / "name").write_text(of + "\n")
    (made / "energy_uj").write_text(f"{used}\n")
    (made / "max_energy_range_uj").write_text(f"{most}\n")
    return made


def test_energy_is_that_of_the_processors_and_counters_go_round(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 999_000_000)
    part = zone(tmp_path, "intel-rapl:0:0", "core", 1)
    whole = zone(tmp_path, "intel-rapl:2", "psys", 1)
    with Energy(tmp_path) as energy:
        (first / "energy_uj").write_text("7500000\n")
        (second / "energy_uj").write_text("500000\n")  # went round: 1 J + 0.5 J
        (part / "energy_uj").write_text("900000000\n")
        (whole / "energy_uj").write_text("900000000\n")
    assert energy.joules == pytest.approx(2.5 + 1.5)


def test_energy_that_cannot_be_read_is_not_zero(tmp_path: Path) -> None:
    with Energy(tmp_path / "none") as energy:
        pass
    assert energy.joules is None
    zone(tmp_path, "intel-rapl:0", "package-0", 5)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("")
    with Energy(tmp_path) as energy:
        pass
    assert energy.joules is None
