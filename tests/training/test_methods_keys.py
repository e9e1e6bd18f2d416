"""Keys of the training section that only some methods read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from luthier.errors import InputError
from luthier.jobs import train
from luthier.task import Task
from luthier.task_training import Training
from luthier.training.config import decide, refuse_ignored
from luthier.training.method import METHODS


def test_every_key_that_a_method_reads_is_one_of_the_training_section() -> None:
    for name, method in METHODS:
        assert method.reads <= set(Training.model_fields), name


@pytest.mark.parametrize(
    ("key", "value", "reader", "other"),
    [
        ("rank", 4, "lora", "full"),
        ("alpha", 4.0, "pissa", "ia3"),
        ("dropout", 0.1, "dora", "head"),
        ("targets", ["q_proj"], "qlora", "embeddings"),
        ("layers", 2, "last-layers", "lora"),
    ],
)
def test_a_key_that_no_chosen_method_reads_is_refused(
    key: str, value: Any, reader: str, other: str
) -> None:
    wishes = Training(**{key: value})
    refuse_ignored(wishes, [reader])
    refuse_ignored(wishes, [reader, other])
    refuse_ignored(wishes, [])
    with pytest.raises(InputError, match=rf"`training.{key}` is read by .*{reader}.*by {other}"):
        refuse_ignored(wishes, [other])


def test_defaults_that_are_written_out_are_not_refused() -> None:
    """The task.yaml of a run folder holds every default."""
    written = Training.model_validate(Training().model_dump())
    for name in METHODS.names():
        refuse_ignored(written, [name])


def test_luthier_train_refuses_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "t",
                "kind": "generation",
                "data": {"train": "nowhere.jsonl", "input": "{{ a }}", "output": "{{ b }}"},
                "training": {"layers": 3},
            }
        )
    )
    with pytest.raises(InputError, match=r"`training.layers` is read by last-layers, and not by"):
        train(Task.load(path), out=tmp_path / "out", method="lora")
    assert not (tmp_path / "out").exists()


def test_what_a_method_leaves_open_is_decided_for_it() -> None:
    def decided(method: str, **wishes: Any) -> Any:
        return decide(
            Training(**wishes),
            method=method,
            examples=10,
            hidden_size=576,
            context_length=64,
            bfloat16=False,
            seed=0,
            layers=30,
        )

    assert [decided(m, rank=64).alpha for m in ("lora", "rslora", "pissa")] == [128, 8, 64]
    assert decided("rslora", rank=64, alpha=3).alpha == 3
    assert (decided("last-layers").layers, decided("lora").layers) == (8, None)
    assert decided("last-layers", layers=2).layers == 2
    assert decided("lora", targets=["q_proj"]).targets == ("q_proj",)
    assert decided("ia3").learning_rate == 1e-2


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"targets": []}, {"targets": "q_proj"}])
def test_values_of_another_kind_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Training(**wrong)
