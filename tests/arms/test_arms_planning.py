"""Which arms a run has, and why; the floor."""

from __future__ import annotations

from pathlib import Path

import pytest
from arms_samples import example, task, workplace

from luthier.arms.base import ARMS
from luthier.arms.majority import Majority
from luthier.arms.planning import choose_arms
from luthier.errors import InputError
from luthier.training.method import METHODS

MODEL = Path("smollm2-135m-instruct")


def test_auto_takes_what_suits_the_kind_and_says_why() -> None:
    planned, left_out = choose_arms(task(MODEL))
    assert [p.name for p in planned] == [
        "majority",
        "linear-probe",
        "classifier",
        "zero-shot",
        "few-shot",
        "lora",
    ]
    why = {p.name: p.why for p in planned}
    assert why["majority"] == "the floor that anything worth deploying must beat"
    assert why["linear-probe"] == "a cheap way of doing classification"
    assert why["zero-shot"] == "needs no training"
    assert "classification" in why["lora"]
    # of the tuning methods, auto takes LoRA alone
    assert {p.name: p.why for p in left_out if p.name in METHODS} == {
        name: "not part of `arms: auto`; name it to have it run"
        for name in METHODS.names()
        if name != "lora"
    }


def test_auto_leaves_out_what_does_not_suit() -> None:
    planned, left_out = choose_arms(task(MODEL, kind="translation"))
    assert "linear-probe" not in [p.name for p in planned]
    reasons = {p.name: p.why for p in left_out}
    assert reasons["linear-probe"] == "linear-probe is for classification, not for translation"


def test_named_arms_run_in_their_order_once() -> None:
    planned, left_out = choose_arms(task(MODEL, arms=["lora", "majority", "lora"]))
    assert [p.name for p in planned] == ["majority", "lora"]
    assert {p.why for p in planned} == {"named in the task"}
    assert left_out == []


def test_an_unknown_arm_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"`arms` names 'few_shots', which.*'few-shot'"):
        choose_arms(task(MODEL, arms=["few_shots"]))


def test_an_arm_that_cannot_do_the_task() -> None:
    with pytest.raises(InputError, match="linear-probe is for classification, not for ner") as e:
        choose_arms(task(MODEL, kind="ner", arms=["linear-probe"]))
    assert e.value.fix == "Take it out of `arms`."


def test_a_training_key_must_be_read_by_one_of_the_tuned_arms() -> None:
    layered = {"training": {"layers": 2}}
    choose_arms(task(MODEL, arms=["lora", "last-layers"], **layered))
    choose_arms(task(MODEL, arms=["zero-shot"], **layered))  # nothing is trained at all
    for arms in (["lora", "zero-shot"], "auto"):
        with pytest.raises(InputError, match=r"`training.layers` is read by last-layers, and not"):
            choose_arms(task(MODEL, arms=arms, **layered))


def test_every_arm_says_what_it_is() -> None:
    for name, kind in ARMS:
        assert kind.name == name
        assert kind.title
        assert kind.__doc__
    assert [name for name, kind in ARMS if kind.floor] == ["majority"]
    changing = {name for name, kind in ARMS if kind.changes_weights}
    others = {"multi-task", "staged", "lora+rag", "lora-then-rag"}
    assert changing - others == set(METHODS.names())


@pytest.mark.parametrize(
    ("outputs", "answer", "note"),
    [
        (["b", "a", "b"], "b", "2 of 3"),
        (["b", "a", "c", "b", "c"], "b", "2 of 5"),  # equals: the first in alphabetical order
        (["z", "y"], "y", "1 of 2"),
    ],
)
def test_the_most_common_answer(
    tiny_model: Path, tmp_path: Path, outputs: list[str], answer: str, note: str
) -> None:
    rows = [example(str(i), output) for i, output in enumerate(outputs)]
    place = workplace(tiny_model, tmp_path, train=rows)
    fit = Majority().fit(place)
    assert fit.settings == {"answer": answer}
    assert note in fit.notes[0]
    answerer = Majority().open(place.task, None, tmp_path, fit.settings, place.pool)
    asked = [e.messages for e in place.validation]
    assert [a.text for a in answerer.answer(asked)] == [answer] * len(asked)
    assert next(iter(answerer.stream(asked[0]))) == answer
