from __future__ import annotations

from typing import Any

import pytest

from luthier.errors import InputError
from luthier.task_training import Training
from luthier.training.config import TrainingConfig, decide, default_epochs
from luthier.training.method import METHODS


def decided(wishes: Training | None = None, **changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "method": "lora",
        "examples": 500,
        "hidden_size": 576,
        "context_length": 8192,
        "bfloat16": True,
        "seed": 3,
    }
    return decide(wishes or Training(), **{**values, **changes})


def test_what_is_left_open_depends_on_method_width_and_data() -> None:
    found = decided()
    # 5e-4 * sqrt(2000 / 576)
    assert found.learning_rate == pytest.approx(9.317e-4, rel=1e-3)
    assert (found.epochs, found.rank, found.alpha, found.max_tokens) == (3, 16, 32.0, 8192)
    assert (found.precision, found.method, found.seed) == ("bfloat16", "lora", 3)
    assert decided(method="full").learning_rate == pytest.approx(found.learning_rate / 10)
    assert decided(bfloat16=False).precision == "float32"
    assert [default_epochs(n) for n in (1, 1499, 1500, 4999, 5000)] == [3, 3, 2, 2, 1]
    # bounded for very narrow and very wide models
    assert METHODS.get("lora")().learning_rate(32) == 1e-3
    assert METHODS.get("lora")().learning_rate(10**6) == 1e-4


def test_wishes_come_first() -> None:
    found = decided(
        Training(learning_rate=0.1, epochs=0.5, rank=4, precision="float32", max_tokens=100)
    )
    assert (found.learning_rate, found.epochs, found.rank, found.alpha) == (0.1, 0.5, 4, 8.0)
    assert (found.precision, found.max_tokens) == ("float32", 100)
    assert decided(Training(rank=4, alpha=3)).alpha == 3


def test_more_tokens_than_the_model_reads_are_refused() -> None:
    with pytest.raises(InputError, match=r"`training.max_tokens` is 9000.*at most 8192"):
        decided(Training(max_tokens=9000))
