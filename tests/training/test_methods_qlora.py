"""LoRA beside a base in 4 bits: what is packed, counted, stored, and what answers in the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_fakes import keeping, logits, move, prepared, stage
from training_fakes import load

from luthier.errors import ModelError
from luthier.models import adapters, quantized
from luthier.models.tuned import load_any, load_tuned
from luthier.training.method import METHODS

pytest.importorskip("bitsandbytes")

Q = "model.layers.0.self_attn.q_proj"


def test_linear_layers_are_packed_and_their_weights_counted_one_by_one(tiny_model: Path) -> None:
    import bitsandbytes as bnb

    base = load(tiny_model).model
    plain = adapters.counts(prepared(load(tiny_model).model, "lora", rank=4))
    model = prepared(base, "qlora", rank=4)
    packed = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(packed) == 14
    assert {m.weight.quant_state.quant_type for m in packed} == {"nf4"}
    assert all(m.weight.quant_state.nested for m in packed)
    assert not isinstance(model.get_output_embeddings(), bnb.nn.Linear4bit)
    assert adapters.counts(model) == plain
    # two weights a byte, which is what a plain count would count
    assert sum(p.numel() for p in model.parameters()) < plain[1]
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounded_weights_are_those_that_packed_layers_compute_with(
    tiny_model: Path, dtype: torch.dtype
) -> None:
    import bitsandbytes as bnb

    packed = quantized.quantize(load(tiny_model, dtype).model)
    rounded = quantized.round_weights(load(tiny_model, dtype).model)
    for name, module in packed.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            inner = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            assert torch.equal(rounded.get_submodule(name).weight, inner)
    exact = dtype == torch.float32
    close = {"rtol": 1e-4, "atol": 1e-4} if exact else {"rtol": 0.05, "atol": 0.1}
    for mode in (True, False):  # looking at validation rows must not change the weights
        packed.train(mode)
        with torch.no_grad():
            found = packed(input_ids=torch.tensor([[5, 6, 7, 8]])).logits
            wanted = rounded(input_ids=torch.tensor([[5, 6, 7, 8]])).logits
        torch.testing.assert_close(found, wanted, **close)


def test_what_answers_is_what_was_trained_and_not_another_base(
    tiny_model: Path, tmp_path: Path
) -> None:
    with keeping("qlora") as kept:
        result = stage(tiny_model, tmp_path, "qlora")
    wanted = logits(kept[0])
    folder = tmp_path / "model"
    assert json.loads((folder / "quantization.json").read_text()) == {
        "kind": "nf4",
        "block": 64,
        "double": True,
        "packed_from": "float32",
    }
    found = load_any(str(tmp_path), torch.float32).model
    torch.testing.assert_close(logits(found), wanted, rtol=1e-4, atol=1e-4)
    assert not quantized.is_quantized(found)
    # the same adapter on the weights before they were packed says something else
    other = adapters.merge_peft(load(tiny_model).model, folder)
    gap = float((logits(other) - wanted).abs().max())
    assert gap > 100 * float((logits(found) - wanted).abs().max())
    assert result.trained_parameters == adapters.counts(kept[0])[0]


def test_the_base_is_packed_from_the_precision_it_was_trained_in(
    tiny_model: Path, tmp_path: Path
) -> None:
    """A chain: the first stage is merged in bfloat16 before it is packed, then as now."""
    stage(tiny_model, tmp_path / "one", "lora", precision="bfloat16")
    with keeping("qlora") as kept:
        stage(tmp_path / "one", tmp_path / "two", "qlora", seed=3, precision="bfloat16")
    rounded = {
        name: module
        for name, module in kept[0].get_base_model().named_modules()
        if hasattr(module, "base_layer")
    }
    loaded = load_any(str(tmp_path / "two"), torch.float32)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    import bitsandbytes as bnb

    for name, module in rounded.items():
        weight = module.base_layer.weight
        inner = bnb.functional.dequantize_4bit(weight.data, weight.quant_state).float()
        a, b = module.lora_A["default"].weight.float(), module.lora_B["default"].weight.float()
        # what is left is the rounding of the adapter to bfloat16, no step of 4 bits
        update = module.scaling["default"] * b @ a
        found = loaded.model.get_submodule(name).weight
        torch.testing.assert_close(found, inner + update, rtol=0, atol=2e-3)
    again = load_tuned(tmp_path / "two" / "model", "unused")
    torch.testing.assert_close(logits(again.model), logits(loaded.model))


def test_without_the_stages_record_it_loads_on_the_base_that_is_named(
    tiny_model: Path, tmp_path: Path
) -> None:
    with keeping("qlora") as kept:
        stage(tiny_model, tmp_path, "qlora")
    (tmp_path / "model" / "prompt.json").unlink()
    loaded = load_tuned(tmp_path / "model", str(tiny_model))
    torch.testing.assert_close(logits(loaded.model), logits(kept[0]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["lora", "full", "head", "embeddings", "last-layers", "ia3"])
def test_packed_weights_are_neither_trained_nor_merged_into(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    packed = quantized.quantize(load(tiny_model).model)
    with pytest.raises(ModelError, match="packed in 4 bits") as error:
        prepared(packed, method)
    assert "full precision" in error.value.fix
    if method == "lora":
        model = prepared(load(tiny_model).model, "lora", rank=2)
        METHODS.get("lora")().store(model, move(model), tmp_path, None, base="x")
        with pytest.raises(ModelError, match="would be rounded away"):
            adapters.merge(packed, tmp_path)
        with pytest.raises(ModelError, match="packed in 4 bits"):
            quantized.quantize(packed)


def test_without_bitsandbytes_the_fix_is_said(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match="need the package bitsandbytes") as error:
        prepared(load(tiny_model).model, "qlora")
    assert "pip install bitsandbytes" in error.value.fix


def test_a_model_without_linear_layers_is_refused() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(ModelError, match="no linear layers that could be put into 4 bits"):
        prepared(model, "qlora")


@pytest.mark.parametrize(
    "held", ['{"kind": "fp4"}', "[]", '{"kind": "nf4", "block": 64, "double": true}']
)
def test_another_way_of_packing_is_refused(tmp_path: Path, held: str) -> None:
    assert quantized.recorded(tmp_path) is None
    (tmp_path / "quantization.json").write_text(held)
    with pytest.raises(ModelError, match=r"quantization\.json"):
        quantized.recorded(tmp_path)


def test_nothing_is_said_on_import() -> None:
    """bitsandbytes names an optional package on standard error whenever it is imported."""
    code = (
        "import logging, luthier.models.adapters, peft, bitsandbytes;"
        "logging.getLogger('bitsandbytes.backends.cpu.ops').warning('but this is heard')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert done.stderr.strip() == "but this is heard"


def packed_bytes(model: Any) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def test_it_takes_less_memory(tiny_model: Path) -> None:
    plain = load(tiny_model).model
    blocks = sum(p.numel() for n, p in plain.named_parameters() if "_proj" in n)
    before = packed_bytes(plain)
    after = packed_bytes(quantized.quantize(plain))
    assert before - after == 4 * blocks - blocks // 2
