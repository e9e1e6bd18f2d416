"""What holds of every tuning method: what is stored is what was trained, alone and in chains.

That it goes on after an interruption: test_training_resume.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from methods_fakes import keeping, logits, stage

from luthier.models import adapters
from luthier.models.form import form_of
from luthier.models.tuned import describe_any, lineage, load_any, load_tuned
from luthier.training.method import METHODS

ALL = METHODS.names()
#: Those whose result is a model like any other, which a further stage can start from.
MERGED = [n for n in ALL if n not in ("bottleneck", "p-tuning", "prefix-tuning", "prompt-tuning")]


@pytest.mark.parametrize("method", ALL)
def test_stored_loaded_and_merged_it_says_what_was_trained(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    with keeping(method) as kept:
        result = stage(tiny_model, tmp_path / "s", method)
    (trained,) = kept
    wanted = logits(trained)
    base = load_any(str(tiny_model), torch.float32).model
    assert float((wanted - logits(base)).abs().max()) > 0.01
    for loaded in (
        load_any(str(tmp_path / "s"), torch.float32),
        load_tuned(tmp_path / "s" / "model", str(tiny_model)),
    ):
        assert not loaded.model.training
        torch.testing.assert_close(logits(loaded.model), wanted, rtol=1e-4, atol=1e-4)

    counted = adapters.counts(trained)
    assert (result.trained_parameters, result.total_parameters) == counted
    assert 0 < result.trained_fraction == counted[0] / counted[1] <= 1
    assert result.to_dict()["trained_fraction"] == result.trained_fraction
    assert (result.trained_fraction == 1) == (method == "full")
    stored = tmp_path / "s" / "model"
    assert (form_of(stored) is None) == (method == "full")
    held = sum(p.stat().st_size for p in stored.glob("*.safetensors"))
    # four bytes a trained number and a header; PiSSA stores where it began as well
    most = 4 * counted[0] * (2 if method == "pissa" else 1) + 8000
    assert held <= most
    assert json.loads((stored / "prompt.json").read_text())["model"] == str(tiny_model)


@pytest.mark.parametrize("method", ALL)
def test_trained_in_bfloat16_it_says_nearly_the_same(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    with keeping(method) as kept:
        stage(tiny_model, tmp_path / "s", method, precision="bfloat16")
    wanted = logits(kept[0])
    found = logits(load_any(str(tmp_path / "s"), torch.float32).model)
    # bfloat16 has 8 bits: the logits of the base itself are off by about as much
    low = logits(load_any(str(tiny_model), torch.bfloat16).model)
    high = logits(load_any(str(tiny_model), torch.float32).model)
    noise = float((low - high).norm())
    assert float((found - wanted).norm()) < 4 * noise
    assert noise < 0.05 * float(high.norm())


@pytest.mark.parametrize("method", MERGED)
def test_it_can_stand_in_a_chain(tiny_model: Path, tmp_path: Path, method: str) -> None:
    stage(tiny_model, tmp_path / "one", "lora", rank=2)
    with keeping(method) as kept:
        stage(tmp_path / "one", tmp_path / "two", method, seed=5)
    second = logits(kept[0])
    with keeping("rslora") as kept:
        stage(tmp_path / "two", tmp_path / "three", "rslora", seed=7, rank=2)
    third = logits(kept[0])
    found = load_any(str(tmp_path / "two"), torch.float32)
    torch.testing.assert_close(logits(found.model), second, rtol=1e-4, atol=1e-4)
    found = load_any(str(tmp_path / "three"), torch.float32)
    torch.testing.assert_close(logits(found.model), third, rtol=1e-4, atol=1e-4)
    assert float((second - third).abs().max()) > 0.01
    made_of = lineage(str(tmp_path / "three"))
    assert len(made_of.adapters) == (1 if method == "full" else 3)
    info = describe_any(str(tmp_path / "three"))
    assert info.parameters == sum(p.numel() for p in found.model.parameters())


@pytest.mark.parametrize("width", [64, 576, 4096, 10**5])
def test_rates_are_between_those_of_full_fine_tuning_and_of_prompts(width: int) -> None:
    full = METHODS.get("full")().learning_rate(width)
    lora = METHODS.get("lora")().learning_rate(width)
    for name in ("rslora", "dora", "qlora", "embeddings"):
        assert METHODS.get(name)().learning_rate(width) == lora
    assert METHODS.get("head")().learning_rate(width) > lora
    assert full < METHODS.get("last-layers")().learning_rate(width) < lora
    assert full < METHODS.get("pissa")().learning_rate(width) < lora
    assert 3e-3 <= METHODS.get("ia3")().learning_rate(width) <= 1e-2


def test_methods_are_listed_without_torch() -> None:
    code = (
        "import sys; from luthier.training.method import METHODS; METHODS.names();"
        "from luthier.models.form import FORMS; FORMS.names();"
        "sys.exit(any(m in sys.modules for m in ('torch', 'peft', 'bitsandbytes')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
