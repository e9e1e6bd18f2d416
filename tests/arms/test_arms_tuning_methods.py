"""Tuning methods as arms: what is fitted is what answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from arms_samples import COLOURS, workplace

from luthier.arms.base import ARMS
from luthier.arms.tuned import TunedArm
from luthier.models.pool import ModelPool
from luthier.training.method import METHODS

TRAINING = {"epochs": 1, "learning_rate": 1e-2, "precision": "float32"}


def test_every_method_is_an_arm_and_only_lora_runs_unasked() -> None:
    for name, method in METHODS:
        arm = ARMS.get(name)
        assert issubclass(arm, TunedArm)
        assert (arm.method, arm.title, arm.__doc__) == (name, method.title, method.__doc__)
    assert [name for name, method in METHODS if method.in_auto] == ["lora"]
    titles = [method.title for _, method in METHODS]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", ["dora", "head", "pissa", "qlora"])
def test_the_arm_answers_with_what_was_trained(
    tiny_model: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    store = METHODS.get(name).store

    def keep(self: object, model: torch.nn.Module, *args: object, **named: object) -> None:
        kept.append(model)
        store(self, model, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(METHODS.get(name), "store", keep)
    place = workplace(tiny_model, tmp_path, arms=[name], training=TRAINING)
    arm = ARMS.get(name)()
    assert arm.unsuited(place.task) is None
    fit = arm.fit(place)
    assert 0 < fit.costs["trained_parameters"] < fit.costs["total_parameters"]
    opened = arm.open(place.task, COLOURS, tmp_path, fit.settings, ModelPool(tmp_path))
    generator = opened.own_generator
    assert generator is not None
    ids = torch.tensor([[10, 20, 30, 40]])
    with torch.no_grad():
        wanted = kept[0].eval()(input_ids=ids).logits
        found = generator.model(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    answers = opened.answer([example.messages for example in place.validation])
    assert {answer.text for answer in answers} <= set(COLOURS)
