"""Several tasks at once: shares, whose turn it is, and which rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_samples import luthier, write_task

from luthier.data.examples import Example, Message
from luthier.data.held_out import without_tests
from luthier.data.mixtures import carrying, draw, mix, others, shares, turns, use_of
from luthier.data.prepare import prepare
from luthier.errors import InputError
from luthier.task import Task

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=5)
PARTS = st.lists(st.floats(0.01, 10), min_size=1, max_size=6).map(
    lambda raw: [one / sum(raw) for one in raw]
)


# ---- shares ------------------------------------------------------------------------------------


def test_shares_by_hand() -> None:
    assert shares([100, 300]) == pytest.approx([0.25, 0.75])
    assert shares([100, 300], temperature=1) == pytest.approx([0.25, 0.75])
    # square roots: 10 and 20
    assert shares([100, 400], temperature=2) == pytest.approx([1 / 3, 2 / 3])
    # K = 100: both count for 100
    assert shares([100, 10_000], cap=100) == pytest.approx([0.5, 0.5])
    assert shares([100, 10_000], cap=200, temperature=1) == pytest.approx([1 / 3, 2 / 3])
    assert shares([7, 9000], weights=[3, 1]) == pytest.approx([0.75, 0.25])
    assert shares([7, 9000], weights=[3, None]) == pytest.approx([0.75, 0.25])
    assert shares([1, 3], weights=[None, None]) == pytest.approx([0.25, 0.75])


@given(SIZES, st.floats(0.05, 50))
def test_any_temperature_gives_shares_in_the_order_of_the_sizes(
    sizes: list[int], temperature: float
) -> None:
    found = shares(sizes, temperature=temperature)
    assert sum(found) == pytest.approx(1)
    for one, first in zip(sizes, found, strict=True):
        for other, second in zip(sizes, found, strict=True):
            if one > other:
                assert first >= second
    # hotter is closer to equal
    hotter = shares(sizes, temperature=2 * temperature)
    assert max(hotter) - min(hotter) <= max(found) - min(found) + 1e-9


def test_the_limit_of_a_high_temperature_is_equal_shares() -> None:
    assert shares([1, 1000], temperature=1e9) == pytest.approx([0.5, 0.5], abs=1e-6)


# ---- order -------------------------------------------------------------------------------------


@given(PARTS, st.integers(0, 300))
def test_no_task_is_ever_a_whole_draw_ahead_of_its_share(parts: list[float], total: int) -> None:
    order = turns(parts, total)
    assert len(order) == total
    counts = [0] * len(parts)
    for step, task in enumerate(order, 1):
        counts[task] += 1
        for part, count in zip(parts, counts, strict=True):
            assert count < part * step + 1
            assert count > part * step - len(parts)


@given(SIZES, st.integers(0, 400), st.integers(0, 5), st.data())
def test_a_task_goes_through_all_its_rows_before_any_comes_again(
    sizes: list[int], total: int, seed: int, data: st.DataObject
) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 5), min_size=len(sizes), max_size=len(sizes)))
    parts = [weight / sum(weights) for weight in weights]
    drawn = draw(sizes, parts, total, seed)
    assert drawn == draw(sizes, parts, total, seed)
    start = 0
    for size in sizes:
        mine = [row for row in drawn if start <= row < start + size]
        for begin in range(0, len(mine), size):
            epoch = mine[begin : begin + size]
            assert len(set(epoch)) == len(epoch)
        if mine:
            seen = Counter(mine)
            most = max(seen.values())
            assert most - min(seen[row] for row in range(start, start + size)) <= 1
        start += size
    assert len(drawn) == total


def test_a_draw_is_a_function_of_the_seed_and_the_place_alone() -> None:
    whole = draw([5, 7], [0.3, 0.7], 100, seed=4)
    assert draw([5, 7], [0.3, 0.7], 37, seed=4) == whole[:37]
    assert draw([5, 7], [0.3, 0.7], 100, seed=5) != whole
    # rounds of one task come in different orders
    mine = [row for row in whole if row < 5]
    assert mine[:5] != mine[5:10]


def test_one_pass_in_proportion_is_every_row_once() -> None:
    assert sorted(draw([10, 30], [0.25, 0.75], 40, seed=1)) == list(range(40))


# ---- rows of tasks -----------------------------------------------------------------------------


def example(text: str, *before: Message) -> Example:
    return Example(text, (*before, Message("user", text)), "x", source=text)


def test_a_row_carries_its_instruction_unless_it_has_one() -> None:
    assert carrying(example("q"), "Do it.").messages[0] == Message("system", "Do it.")
    own = example("q", Message("system", "mine"))
    assert carrying(own, "Do it.") is own


def test_rows_that_are_tested_on_are_left_out() -> None:
    train = [example("Red box?"), example("blue"), example("a cup")]
    kept, left_out = without_tests(train, [[example("red BOX")], [example("green")]])
    assert [e.input for e in kept] == ["blue", "a cup"]
    assert left_out == 1


def tasks(folder: Path, model: Path, mixture: Any, **changes: Any) -> Task:
    write_task(folder / "other", model, name="other", rows=50, instruction="Say it.", seed=2)
    path = write_task(folder / "main", model, name="main", mixture=mixture, **changes)
    return Task.load(path)


def test_a_mixture_of_two_tasks(tmp_path: Path, tiny_model: Path) -> None:
    task = tasks(tmp_path, tiny_model, {"tasks": [{"task": "../other", "weight": 3}]})
    prepared, read = prepare(task), others(task)
    mixed = mix(task, prepared, read)
    assert mixed.shares == pytest.approx({"main": 0.25, "other": 0.75})
    assert len(mixed.tasks) == len(mixed.examples)
    mine = [e for e, name in zip(mixed.examples, mixed.tasks, strict=True) if name == "main"]
    assert tuple(mine) == prepared.splits.train
    theirs = [e for e, name in zip(mixed.examples, mixed.tasks, strict=True) if name == "other"]
    assert {e.messages[0] for e in theirs} == {Message("system", "Say it.")}
    held = {e.input for e in (*prepared.splits.test, *prepared.splits.validation)}
    other = read.tasks["other"][1].splits
    assert held & {e.input for e in other.train}  # the two were cut from the same rows
    assert not held & {e.input for e in theirs}
    assert "other: " in mixed.notes[0]
    assert "left out" in mixed.notes[0]


def test_the_task_itself_may_have_a_weight(tmp_path: Path, tiny_model: Path) -> None:
    task = tasks(
        tmp_path, tiny_model, {"tasks": [{"weight": 4}, {"task": "../other", "weight": 1}]}
    )
    assert mix(task, prepare(task), others(task)).shares == pytest.approx(
        {"main": 0.8, "other": 0.2}
    )


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        (
            {"tasks": [{"task": "../nowhere"}]},
            r"`mixture.tasks.0.task`: .*nowhere.* does not exist",
        ),
        ({"tasks": [{"weight": 2}, {"task": "../main/task.yaml"}]}, "is this task itself"),
        ({"tasks": [{"task": "../other"}, {"task": "../other/"}]}, "is called 'other'"),
    ],
)
def test_others_that_cannot_be_used(
    tmp_path: Path, tiny_model: Path, mixture: Any, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        others(tasks(tmp_path, tiny_model, mixture))


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        ({"tasks": [{"task": "x", "weight": 0}]}, "`mixture.tasks.0.weight` must be more than 0"),
        ({"tasks": [{"task": "x", "weight": -1}]}, "`mixture.tasks.0.weight` must be more than 0"),
        ({"tasks": [{"task": "x"}], "temperature": 0}, "`mixture.temperature` must be more than 0"),
        ({"tasks": [{"task": "x", "weight": 2}], "temperature": 2}, "not both"),
        ({"tasks": [{"task": "x", "weight": 2}], "cap": 10}, "not both"),
        ({"tasks": [{"task": "x"}, {"task": "x"}]}, "named twice"),
        ({"tasks": []}, "at least two"),
        ({"tasks": [{"weight": 1}]}, "at least two"),
        ({"tasks": [{"tsk": "x"}]}, "unknown key `mixture.tasks.0.tsk`. Did you mean 'task'"),
        ({"taks": [{"task": "x"}]}, "Did you mean 'tasks'"),
    ],
)
def test_a_mixture_that_makes_no_sense(mixture: Any, expected: str) -> None:
    values = {
        "name": "a",
        "kind": "qa",
        "data": {"train": "x.csv", "input": "{{ a }}", "output": "{{ b }}"},
        "mixture": mixture,
    }
    with pytest.raises(InputError) as caught:
        Task.from_dict(values)
    assert expected in str(caught.value)


# ---- what each task gives ----------------------------------------------------------------------


def test_what_a_mixture_takes_of_each_task(tmp_path: Path, tiny_model: Path) -> None:
    member = {"task": "../other", "weight": 3, "rows": 10}
    task = tasks(tmp_path, tiny_model, {"tasks": [member]})
    mixed = mix(task, prepare(task), others(task))
    mine, theirs = use_of(mixed, 400, lambda example: len(example.output))
    assert (mine.name, theirs.name) == ("main", "other")
    assert theirs.rows == 10
    assert mine.rows + theirs.rows == len(mixed.examples)
    assert (mine.draws, theirs.draws) == (100, 300)
    assert theirs.epochs == 30
    assert mine.epochs == pytest.approx(100 / mine.rows)
    counted = sum(len(e.output) for e in mixed.examples[: mine.rows])
    assert mine.tokens == counted
    assert mine.drawn_tokens == round(counted * 100 / mine.rows)
    assert theirs.tokens == sum(len(e.output) for e in mixed.examples[mine.rows :])
    assert use_of(mixed, 400)[0].drawn_tokens is None
    assert "other: 10 of " in " ".join(mixed.notes)


def test_a_check_shows_what_a_mixture_takes(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tasks(tmp_path, tiny_model, {"tasks": [{"task": "../other", "weight": 3}]}).path
    _, printed, _ = luthier(capsys, "check", path, "--json")
    uses = {use["name"]: use for use in json.loads(printed)["mixture"]}
    assert [use["share"] for use in uses.values()] == pytest.approx([0.25, 0.75])
    rows = sum(use["rows"] for use in uses.values())
    assert sum(use["draws"] for use in uses.values()) == rows  # one pass
    assert uses["other"]["epochs"] == pytest.approx(uses["other"]["draws"] / uses["other"]["rows"])
    assert all(use["drawn_tokens"] > use["draws"] for use in uses.values())
    _, printed, _ = luthier(capsys, "check", path)
    line = next(line for line in printed.splitlines() if line.startswith("other"))
    assert "75" in line
    assert f"{uses['other']['drawn_tokens']:,}" in line
