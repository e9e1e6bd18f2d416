"""What a stage will take, told before it begins."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from luthier.models.catalogue import CATALOGUE
from luthier.models.info import from_entry
from luthier.models.loading import load_causal
from luthier.models.machine import Machine
from luthier.task_training import Training
from luthier.training.config import TrainingConfig, decide
from luthier.training.foresee import Foreseen, foresee
from luthier.training.fused.model import fusing
from luthier.training.method import METHODS
from luthier.training.objectives.sft import Item, Sft

SMOLLM2 = from_entry(CATALOGUE["smollm2-135m-instruct"], None)
BOX = Machine(
    cores=2,
    memory_total=24_000_000_000,
    memory_available=23_000_000_000,
    gpus=(),
    cpu_bfloat16=True,
    platform="Linux x86_64",
)


def config(method: str, **wishes: Any) -> TrainingConfig:
    return decide(
        Training(**wishes),
        method=method,
        examples=64,
        hidden_size=SMOLLM2.hidden_size,
        context_length=SMOLLM2.context_length,
        bfloat16=True,
        seed=0,
    )


def rows(count: int = 64, length: int = 100, scored: int = 20, shared: int = 0) -> list[Item]:
    """Rows that begin alike."""
    begin = list(range(5, 5 + shared))
    made = []
    for row in range(count):
        ids = [*begin, *[100 + (row * 7 + place) % 900 for place in range(length - shared)]]
        made.append(Item(ids, [-100] * (length - scored) + ids[-scored:]))
    return made


def of(method: str, items: list[Item], machine: Machine = BOX, **wishes: Any) -> Foreseen:
    return foresee(SMOLLM2, config(method, **wishes), Sft(), items, machine=machine, rate=4e11)


def test_time_grows_with_tokens_and_passes() -> None:
    one = of("lora", rows(), epochs=1)
    assert of("lora", rows(), epochs=3).seconds == pytest.approx(3 * one.seconds)
    assert of("lora", rows(128), epochs=1).seconds == pytest.approx(2 * one.seconds)
    assert of("full", rows(), epochs=1).seconds > one.seconds
    assert of("lora", rows(scored=99), epochs=1).seconds > one.seconds
    # the hand-written layers do not know DoRA
    assert of("dora", rows(), epochs=1).seconds > 1.5 * one.seconds
    assert one.epoch_seconds == one.seconds


def test_what_a_batch_shares_is_counted_once() -> None:
    apart, shared = of("lora", rows()), of("lora", rows(shared=60))
    # of 800 tokens a step 7 * 59 are not computed again
    assert 0.4 < shared.seconds / apart.seconds < 0.7
    assert shared.peak_memory_bytes < apart.peak_memory_bytes


def test_what_would_fit_is_said() -> None:
    assert of("full", rows()).fits
    assert not of("full", rows()).instead
    own = psutil.Process().memory_info().rss  # what this process holds counts as free for it
    tight = dataclasses.replace(BOX, memory_available=2_600_000_000 - own)
    said = of("full", rows(length=600), tight).instead
    assert "free" in said
    assert "--method lora" in said or "one example at a time" in said
    none = dataclasses.replace(BOX, memory_available=-own)
    assert "smaller model" in of("lora", rows(length=2000), none).instead


@pytest.mark.parametrize("method", METHODS.names())
def test_the_hand_written_layers_run_what_is_said_of_them(tiny_model: Path, method: str) -> None:
    model: Any = load_causal(str(tiny_model), torch.float32, attention="eager").model
    tuning = METHODS.get(method)()
    tuning.words = (5, 6, 7)
    wishes = decide(
        Training(),
        method=method,
        examples=8,
        hidden_size=32,
        context_length=64,
        bfloat16=False,
        seed=0,
        layers=2,
    )
    model = tuning.prepare(model, wishes, base=str(tiny_model))
    with fusing(model, True) as fast:
        assert not tuning.fused or fast


def test_what_the_process_holds_already_stays() -> None:
    def peak(held: int) -> int:
        settings = config("lora")
        told = foresee(SMOLLM2, settings, Sft(), rows(), machine=BOX, rate=4e11, held=held)
        return told.peak_memory_bytes

    assert peak(0) == peak(10**8)  # less than the libraries take
    assert peak(4 * 10**9) - peak(3 * 10**9) == 10**9
