"""Which examples are shown, and how many."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from arms_samples import COLOURS, colours, example, workplace
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.arms.few_shot import FewShot, pick_examples
from luthier.data.examples import Example, Message
from luthier.errors import InputError


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    size=st.integers(1, 30),
    seed=st.text(max_size=5),
)
def test_picks_are_spread_evenly_over_the_answers(counts: list[int], size: int, seed: str) -> None:
    rows = [example(f"{c}-{i}", f"label {c}") for c, n in enumerate(counts) for i in range(n)]
    chosen = pick_examples(rows, size, seed)
    assert len(chosen) == min(size, len(rows))
    assert len({e.id for e in chosen}) == len(chosen)
    assert {e.id for e in chosen} <= {e.id for e in rows}
    assert chosen == pick_examples(rows, size, seed)
    if len(counts) <= size:
        # a class has fewer than another only when it has no more rows
        picked = Counter(e.output for e in chosen)
        for c, n in enumerate(counts):
            if picked[f"label {c}"] < n:
                assert picked[f"label {c}"] >= max(picked.values()) - 1


def test_another_draw_takes_other_examples_in_mixed_order() -> None:
    rows = colours(0, 60)
    draws = [pick_examples(rows, 6, f"0-6-{draw}") for draw in range(2)]
    assert {e.id for e in draws[0]} != {e.id for e in draws[1]}
    orders = {tuple(e.output for e in pick_examples(rows, 6, str(i))) for i in range(20)}
    assert len(orders) > 5


def test_the_order_of_the_answers_does_not_depend_on_free_text() -> None:
    rows = [example(str(i), f"a text of its own {i}") for i in range(20)]
    chosen = pick_examples(rows, 3, "seed")
    assert len({e.id for e in chosen}) == 3
    assert chosen == pick_examples(rows, 3, "seed")


def shown(fit_settings: dict[str, object]) -> list[tuple[str, str]]:
    prompt = fit_settings["prompt"]
    assert isinstance(prompt, dict)
    return [(shot["input"], shot["output"]) for shot in prompt["shots"]]


def test_only_training_rows_are_shown(tiny_model: Path, tmp_path: Path) -> None:
    place = workplace(tiny_model, tmp_path)
    fit = FewShot().fit(place)
    shots = shown(fit.settings)
    train = {(e.input, e.output) for e in place.train}
    assert set(shots) <= train
    assert not set(shots) & {(e.input, e.output) for e in place.validation}
    assert fit.settings["examples"] == len(shots)
    assert Counter(output for _, output in shots) == dict.fromkeys(COLOURS, len(shots) // 3)


def test_the_best_on_validation_is_taken_and_the_fewest_among_equals(
    tiny_model: Path, tmp_path: Path
) -> None:
    fit = FewShot().fit(workplace(tiny_model, tmp_path))
    examples, reading = fit.choices
    assert [option["value"] for option in examples.options] == [
        "3 examples, draw 1",
        "3 examples, draw 2",
        "6 examples, draw 1",
        "6 examples, draw 2",
    ]
    best = max(option["score"] for option in examples.options)
    first = next(o["value"] for o in examples.options if o["score"] == best)
    assert examples.chosen == first
    assert max(option["score"] for option in reading.options) == best
    assert "9 validation examples" in examples.why


def test_the_seed_decides(tiny_model: Path, tmp_path: Path) -> None:
    fits = [FewShot().fit(workplace(tiny_model, tmp_path, seed=seed)) for seed in (0, 0, 1)]
    assert fits[0].settings == fits[1].settings
    assert fits[0].choices == fits[1].choices
    assert shown(fits[0].settings) != shown(fits[2].settings)


def test_examples_leave_half_the_context_to_the_question(tiny_model: Path, tmp_path: Path) -> None:
    # 100 bytes a row: 3 rows with their headings fit into 256 tokens hardly, 6 do not
    rows = [example(f"{i:03d} {'x' * 60}", COLOURS[i % 3]) for i in range(12)]
    place = workplace(tiny_model, tmp_path, train=rows, validation=rows[:3])
    fit = FewShot().fit(place)
    assert {o["value"].split(",")[0] for o in fit.choices[0].options} == {"2 short examples"}
    assert "4 sets of examples were too long to try." in fit.notes
    answerer = FewShot().open(place.task, place.labels, tmp_path, fit.settings, place.pool)
    for answer in answerer.answer([e.messages for e in rows]):
        assert answer.prompt_tokens + answer.completion_tokens <= 512


def test_rows_that_never_fit(tiny_model: Path, tmp_path: Path) -> None:
    rows = [example(f"{i:03d} {'x' * 350}", COLOURS[i % 3]) for i in range(12)]
    with pytest.raises(InputError, match="No training example fits into the model's context"):
        FewShot().fit(workplace(tiny_model, tmp_path, train=rows, validation=rows[:3]))


def test_rows_of_several_turns_are_passed_over(tiny_model: Path, tmp_path: Path) -> None:
    talks = [
        Example(
            str(i), (Message("user", "a"), Message("assistant", "b"), Message("user", "c")), "d"
        )
        for i in range(5)
    ]
    place = workplace(
        tiny_model, tmp_path, train=talks, validation=talks[:1], labels=None, kind="chat"
    )
    with pytest.raises(InputError, match="single turn"):
        FewShot().fit(place)
    alone = [example(f"q{i}", f"answer {i}") for i in range(4)]
    mixed = workplace(
        tiny_model,
        tmp_path,
        train=[*talks, *alone],
        validation=alone[:1],
        labels=None,
        kind="chat",
        generation={"max_new_tokens": 4},
    )
    shots = shown(FewShot().fit(mixed).settings)
    assert set(shots) <= {(e.input, e.output) for e in alone}


def test_no_time_for_more_sets_is_said(tiny_model: Path, tmp_path: Path) -> None:
    fit = FewShot().fit(workplace(tiny_model, tmp_path, minutes=1e-9))
    assert len(fit.choices[0].options) == 1
    assert "Of 4 sets of examples 1 was tried, to stay within the budget." in fit.notes
