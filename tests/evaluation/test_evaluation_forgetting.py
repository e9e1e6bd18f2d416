"""What a model forgot: the drop by hand, its interval, and the probes themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.evaluation.forgetting import Probe, answer_probes, drop, general_probes
from luthier.models.pool import ModelPool


def probes(choices: list[int], areas: str | None = None) -> list[Probe]:
    return [
        Probe(str(i), areas[i] if areas else "a", "?", tuple("xyzw"[:n]), 0)
        for i, n in enumerate(choices)
    ]


def test_the_drop_is_corrected_for_chance() -> None:
    # before 3 of 4, after 1 of 4, two choices: (0.75 - 0.5) / 0.5 - (0.25 - 0.5) / 0.5 = 1
    found = drop(probes([2] * 4), [True, True, True, False], [True, False, False, False], seed=0)
    assert found["drop"] == 1.0
    # with four choices: (0.75 - 0.25) / 0.75 - (0.25 - 0.25) / 0.75 = 2 / 3
    found = drop(probes([4] * 4), [True, True, True, False], [True, False, False, False], seed=0)
    assert found["drop"] == pytest.approx(2 / 3, abs=1e-4)
    # one item of each: (2 + 4 / 3) / 2
    found = drop(probes([2, 4]), [True, True], [False, False], seed=0)
    assert found["drop"] == pytest.approx(5 / 3, abs=1e-4)


def test_what_was_learned_is_a_negative_drop() -> None:
    assert drop(probes([2, 2]), [False, True], [True, True], seed=0)["drop"] == -1.0


def test_the_same_answers_are_no_drop_at_all() -> None:
    same = [True, False, True]
    found = drop(probes([2, 3, 4]), same, same, seed=1)
    assert found["drop"] == 0
    assert found["interval"] == [0, 0]


def test_areas_are_told_apart() -> None:
    found = drop(
        probes([2] * 5, "aabbb"),
        [True, True, True, False, True],
        [True, False, True, False, False],
        seed=0,
    )
    said = {
        area: {key: value for key, value in one.items() if key != "interval"}
        for area, one in found["probes"].items()
    }
    assert said == {
        "a": {"before": 1.0, "after": 0.5, "drop": 1.0, "n": 2},
        "b": {"before": 0.6667, "after": 0.3333, "drop": 0.6667, "n": 3},
    }
    for one in found["probes"].values():
        low, high = one["interval"]
        assert low < one["drop"] < high


def test_the_interval_is_that_of_paired_changes() -> None:
    # 200 items of two choices, 20 lost and 10 gained: the change of an item is 2, -2 or 0
    before = [True] * 20 + [False] * 10 + [True] * 170
    after = [False] * 20 + [True] * 10 + [True] * 170
    found = drop(probes([2] * 200), before, after, seed=0)
    change = np.array([2.0] * 20 + [-2.0] * 10 + [0.0] * 170)
    error = change.std() / np.sqrt(200)
    low, high = found["interval"]
    assert found["drop"] == pytest.approx(0.1)
    assert low == pytest.approx(0.1 - 1.96 * error, abs=0.015)
    assert high == pytest.approx(0.1 + 1.96 * error, abs=0.015)
    assert found == drop(probes([2] * 200), before, after, seed=0)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(2, 4), st.booleans(), st.booleans()), min_size=1, max_size=30
    ).map(lambda rows: [list(column) for column in zip(*rows, strict=True)])
)
def test_turning_time_around_turns_the_sign(columns: list[list[int]]) -> None:
    choices, before, after = columns
    there = drop(probes(choices), before, after, seed=0)  # type: ignore[arg-type]
    back = drop(probes(choices), after, before, seed=0)  # type: ignore[arg-type]
    assert there["drop"] == pytest.approx(-back["drop"])
    low, high = there["interval"]
    assert low - 1e-4 <= there["drop"] <= high + 1e-4
    assert [-high, -low] == pytest.approx(back["interval"], abs=1e-3)


def test_the_probes_are_sound() -> None:
    items = general_probes()
    assert len({probe.id for probe in items}) == len(items) >= 100
    assert len({probe.query for probe in items}) >= 0.9 * len(items)
    for probe in items:
        assert len(probe.choices) >= 2
        assert len(set(probe.choices)) == len(probe.choices)
        assert 0 <= probe.gold < len(probe.choices)
        assert all(choice.strip() for choice in probe.choices)
    # the right answer has no favourite place
    for place in range(2):
        share = np.mean([probe.gold == place for probe in items])
        chance = np.mean([1 / len(probe.choices) for probe in items])
        assert abs(share - chance) < 0.2


def test_probes_are_answered_by_likelihood_per_byte(tiny_model: Path) -> None:
    pool = ModelPool()
    generator = pool.generator(str(tiny_model))
    loaded = pool.causal(str(tiny_model))
    items = [
        Probe("1", "a", "The sky is", (" blue", " a cow", " made of very old cheese"), 0),
        Probe("2", "a", "Two and two make", (" five and a bit", " four"), 1),
        Probe("3", "b", "Ice is", (" größer", " cold"), 1),
    ]
    expected = []
    for probe in items:
        ids = loaded.tokenizer(probe.query, add_special_tokens=False)["input_ids"]
        values = []
        for choice in probe.choices:
            more = loaded.tokenizer(choice, add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                logits = loaded.model(torch.tensor([ids + more])).logits[0].double()
            steps = torch.log_softmax(logits[len(ids) - 1 : -1], dim=-1)
            total = sum(float(steps[i, token]) for i, token in enumerate(more))
            values.append(total / len(choice.encode()))
        expected.append(max(range(len(values)), key=lambda i: values[i]) == probe.gold)
    counted: list[int] = []
    assert answer_probes(generator, items, counted.append) == expected
    assert sum(counted) == 3
    # the same model, asked again, has forgotten nothing
    again = answer_probes(generator, items)
    assert drop(items, expected, again, seed=0)["drop"] == 0
