"""Adapters: added, stored in peft's format, merged, and refused where they do not belong."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from models_fakes import make_llama, make_tokenizer
from safetensors.torch import load_file, save_file

from luthier.errors import ModelError
from luthier.models import adapters

IDS = torch.tensor([[5, 90, 33, 200, 7]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS).logits
    return out


def adapted(folder: Path, **changes: Any) -> Any:
    """A base model with an adapter that changes what it says."""
    base = make_llama(folder, tie_word_embeddings=False, **changes)
    model = adapters.add_lora(base, rank=4, alpha=8, dropout=0.0, base="a-name")
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return model.eval()


def stored(model: Any, folder: Path) -> Path:
    folder.mkdir()
    weights = {n: p.detach().float() for n, p in model.named_parameters() if p.requires_grad}
    adapters.save(model, weights, folder, make_tokenizer())
    return folder


def base(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def test_only_the_adapter_is_trained_on_every_linear_layer_but_the_head(tmp_path: Path) -> None:
    model = adapted(tmp_path / "base")
    trained, total = adapters.counts(model)
    # rank * (in + out), over the seven linear layers of two blocks; hidden 32, keys 16, inner 64
    assert trained == 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert total == trained + sum(p.numel() for p in base(tmp_path / "base").parameters())
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in names)
    assert not any("lm_head" in name for name in names)


def test_it_computes_in_the_precision_of_the_model(tmp_path: Path) -> None:
    model = make_llama(tmp_path / "base").to(torch.bfloat16)
    model = adapters.add_lora(model, rank=2, alpha=4, dropout=0.0, base="x")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_saved_loaded_and_merged_it_says_the_same(tmp_path: Path) -> None:
    model = adapted(tmp_path / "base")
    folder = stored(model, tmp_path / "adapter")
    assert adapters.is_adapter(folder)
    assert not adapters.is_adapter(tmp_path / "base")
    before = logits(base(tmp_path / "base"))
    merged = adapters.merge(base(tmp_path / "base"), folder)
    torch.testing.assert_close(logits(merged), logits(model), rtol=1e-4, atol=1e-5)
    assert float((logits(merged) - before).abs().max()) > 0.05
    assert type(merged).__name__ == "LlamaForCausalLM"
    assert not merged.training
    assert all(p.requires_grad for p in merged.parameters())


def test_peft_itself_reads_what_is_stored(tmp_path: Path) -> None:
    from peft import PeftModel

    model = adapted(tmp_path / "base")
    folder = stored(model, tmp_path / "adapter")
    held = json.loads((folder / "adapter_config.json").read_text())
    assert held["base_model_name_or_path"] == "a-name"
    assert (held["r"], held["lora_alpha"], held["inference_mode"]) == (4, 8, True)
    projections = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert held["target_modules"] == projections
    theirs = PeftModel.from_pretrained(base(tmp_path / "base"), str(folder))
    torch.testing.assert_close(logits(theirs), logits(model))


def test_a_merged_model_takes_another_adapter(tmp_path: Path) -> None:
    folder = stored(adapted(tmp_path / "base"), tmp_path / "adapter")
    merged = adapters.merge(base(tmp_path / "base"), folder)
    before = logits(merged)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = adapters.add_lora(merged, rank=2, alpha=4, dropout=0.0, base="x")
    torch.testing.assert_close(logits(again.eval()), before)  # B starts at zero


def test_a_whole_model_is_stored_with_its_tokenizer(tmp_path: Path) -> None:
    model = make_llama(tmp_path / "base")
    folder = tmp_path / "whole"
    folder.mkdir()
    adapters.save(model, {}, folder, make_tokenizer())
    assert (folder / "tokenizer.json").is_file()
    torch.testing.assert_close(logits(base(folder)), logits(model))


class TestWrongBases:
    @pytest.mark.parametrize(
        "changes",
        [
            {"hidden_size": 64},
            {"num_hidden_layers": 1},
            {"num_hidden_layers": 3},
            {"intermediate_size": 48},
        ],
        ids=["wider", "fewer layers", "more layers", "narrower inside"],
    )
    def test_another_shape_is_refused(self, tmp_path: Path, changes: dict[str, int]) -> None:
        folder = stored(adapted(tmp_path / "base"), tmp_path / "adapter")
        make_llama(tmp_path / "other", tie_word_embeddings=False, **changes)
        with pytest.raises(ModelError) as error:
            adapters.merge(base(tmp_path / "other"), folder)
        assert str(folder) in error.value.message
        assert "base model it was trained on" in error.value.fix

    def test_another_architecture_is_refused(self, tmp_path: Path) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        folder = stored(adapted(tmp_path / "base"), tmp_path / "adapter")
        other = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4))
        with pytest.raises(ModelError, match="does not fit"):
            adapters.merge(other, folder)

    def test_missing_tensors_are_refused(self, tmp_path: Path) -> None:
        folder = stored(adapted(tmp_path / "base"), tmp_path / "adapter")
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        del tensors[min(tensors)]
        save_file(tensors, path)
        with pytest.raises(ModelError, match="1 tensors of the adapter have no counterpart"):
            adapters.merge(base(tmp_path / "base"), folder)

    @pytest.mark.parametrize("damage", ["cut", "absent", "empty"])
    def test_a_damaged_file_is_refused(self, tmp_path: Path, damage: str) -> None:
        folder = stored(adapted(tmp_path / "base"), tmp_path / "adapter")
        path = folder / "adapter_model.safetensors"
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-10])
        elif damage == "absent":
            path.unlink()
        else:
            save_file({}, path)
        with pytest.raises(ModelError, match=r"damaged|no counterpart"):
            adapters.merge(base(tmp_path / "base"), folder)
