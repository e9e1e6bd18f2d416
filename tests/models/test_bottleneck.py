"""Bottleneck adapters: what they compute, how they are stored, what they are refused on."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models_fakes import make_llama
from safetensors.torch import load_file, save_file
from torch.nn.functional import gelu
from transformers import AutoConfig, AutoModelForCausalLM

from luthier.errors import ModelError
from luthier.models import adapters
from luthier.models.bottleneck import (
    Bottleneck,
    add_bottlenecks,
    is_adapted,
    restore,
    save,
    without_bottlenecks,
)
from luthier.models.tuned import check_tunable, lineage, load_any

IDS = torch.tensor([[5, 90, 33, 200, 7]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return out


def base(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


def stirred(model: Any) -> Any:
    """The adapters changed, so that they do something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def stored(model: Any, folder: Path, base_name: str = "a-name") -> Path:
    folder.mkdir(parents=True)
    weights = {n: p.detach().float() for n, p in model.named_parameters() if p.requires_grad}
    save(model, weights, folder, base=base_name)
    return folder


def test_one_adapter_by_hand() -> None:
    adapter = Bottleneck(3, 2)
    hidden = torch.tensor([[1.0, -2.0, 0.5]])
    torch.testing.assert_close(adapter(hidden), hidden)  # up starts at 0
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_()
    down, up = adapter.down, adapter.up
    inner = gelu(hidden @ down.weight.T + down.bias)
    torch.testing.assert_close(adapter(hidden), hidden + inner @ up.weight.T + up.bias)


def test_a_model_says_at_first_what_it_said(tmp_path: Path) -> None:
    model = make_llama(tmp_path / "base")
    before = logits(model)
    frozen = sum(p.numel() for p in model.parameters())
    add_bottlenecks(model, width=4)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)
    trained, total = adapters.counts(model)
    # two layers, two places: down 32 x 4 + 4, up 4 x 32 + 32
    assert trained == 2 * 2 * (32 * 4 + 4 + 4 * 32 + 32)
    assert total == frozen + trained
    assert all("bottleneck_" in n for n, p in model.named_parameters() if p.requires_grad)
    assert float((logits(stirred(model)) - before).abs().max()) > 0.05
    with pytest.raises(ModelError, match="already"):
        add_bottlenecks(model, width=4)


def test_it_stands_before_the_residual_is_added(tmp_path: Path) -> None:
    model = stirred(add_bottlenecks(make_llama(tmp_path / "base", num_hidden_layers=1), width=4))
    found = model.base_model(input_ids=IDS).last_hidden_state
    layer, inner = model.base_model.layers[0], model.base_model
    with torch.no_grad(), without_bottlenecks(model):
        x = inner.embed_tokens(IDS)
        positions = inner.rotary_emb(x, torch.arange(5)[None])
        mask = torch.full((1, 1, 5, 5), -1e9).triu(1)
        y, _ = layer.self_attn(
            hidden_states=layer.input_layernorm(x),
            position_embeddings=positions,
            attention_mask=mask,
        )
        layer.bottleneck_attention.enabled = layer.bottleneck_mlp.enabled = True
        x = x + layer.bottleneck_attention(y)
        y = type(layer.mlp).forward(layer.mlp, layer.post_attention_layernorm(x))
        x = x + layer.bottleneck_mlp(y)
        torch.testing.assert_close(found, inner.norm(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("places", [("attention", "mlp"), ("mlp",), ("attention",)])
def test_saved_and_loaded_it_says_the_same(tmp_path: Path, places: Any) -> None:
    model = stirred(add_bottlenecks(make_llama(tmp_path / "base"), width=4, places=places))
    folder = stored(model, tmp_path / "adapter")
    loaded = restore(base(tmp_path / "base"), folder)
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-5, atol=1e-5)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    with without_bottlenecks(loaded):
        torch.testing.assert_close(logits(loaded), logits(base(tmp_path / "base")))
    torch.testing.assert_close(logits(loaded), logits(model), rtol=1e-5, atol=1e-5)
    names = set(load_file(folder / "bottleneck.safetensors"))
    assert len(names) == 2 * len(places) * 4
    assert f"layers.1.{places[0]}.down.weight" in names


def test_it_computes_in_the_precision_of_the_model(tmp_path: Path) -> None:
    model = add_bottlenecks(make_llama(tmp_path / "base").to(torch.bfloat16), width=4)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert logits(stirred(model)).dtype == torch.bfloat16


def test_a_copy_has_adapters_of_its_own(tmp_path: Path) -> None:
    model = stirred(add_bottlenecks(make_llama(tmp_path / "base"), width=4))
    before = logits(model)
    copied = copy.deepcopy(model)
    stirred(copied)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)
    assert float((logits(copied) - before).abs().max()) > 0.05


class TestAsAStage:
    def make(self, tmp_path: Path) -> tuple[Path, Any]:
        model = stirred(add_bottlenecks(make_llama(tmp_path / "base"), width=4))
        folder = stored(model, tmp_path / "stage" / "model", str(tmp_path / "base"))
        (folder / "prompt.json").write_text(json.dumps({"model": str(tmp_path / "base")}))
        return tmp_path / "stage", model

    def test_it_is_loaded_beside_its_base(self, tmp_path: Path) -> None:
        stage, model = self.make(tmp_path)
        loaded = load_any(str(stage), torch.float32)
        assert is_adapted(loaded.model)
        torch.testing.assert_close(logits(loaded.model), logits(model), rtol=1e-5, atol=1e-5)
        assert adapters.is_adapter(stage / "model")

    def test_merging_and_further_tuning_are_refused(self, tmp_path: Path) -> None:
        stage, _ = self.make(tmp_path)
        with pytest.raises(ModelError, match="not linear") as error:
            adapters.merge(base(tmp_path / "base"), stage / "model")
        assert "beside its base" in error.value.fix
        with pytest.raises(ModelError, match="cannot be tuned further") as error:
            check_tunable(str(stage))
        assert "base model" in error.value.fix
        check_tunable(str(tmp_path / "base"))
        # and where somebody has done it by hand
        later = tmp_path / "later" / "model"
        later.mkdir(parents=True)
        (later / "prompt.json").write_text(json.dumps({"model": str(stage)}))
        (later / "adapter_config.json").write_text("{}")
        with pytest.raises(ModelError, match="cannot be tuned further"):
            lineage(str(tmp_path / "later"))


class TestRefused:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        model = stirred(add_bottlenecks(make_llama(tmp_path / "base"), width=4))
        return stored(model, tmp_path / "adapter")

    @pytest.mark.parametrize(
        "changes", [{"hidden_size": 64}, {"num_hidden_layers": 3}], ids=["wider", "deeper"]
    )
    def test_another_shape(self, tmp_path: Path, folder: Path, changes: dict[str, int]) -> None:
        make_llama(tmp_path / "other", **changes)
        with pytest.raises(ModelError, match="2 layers of width 32") as error:
            restore(base(tmp_path / "other"), folder)
        assert "base model it was trained on" in error.value.fix

    @pytest.mark.parametrize("damage", ["cut", "absent", "less", "more", "shape"])
    def test_damaged_tensors(self, tmp_path: Path, folder: Path, damage: str) -> None:
        path = folder / "bottleneck.safetensors"
        tensors = load_file(path)
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-10])
        elif damage == "absent":
            path.unlink()
        else:
            name = min(tensors)
            if damage == "less":
                del tensors[name]
            elif damage == "more":
                tensors["layers.7.mlp.up.bias"] = torch.zeros(32)
            else:
                tensors[name] = tensors[name][:1]
            save_file(tensors, path)
        with pytest.raises(ModelError, match=r"damaged|1 tensors of the adapters"):
            restore(base(tmp_path / "base"), folder)

    @pytest.mark.parametrize(
        "change",
        [
            {"format": 2},
            {"width": "4"},
            {"width": 0},
            {"places": []},
            {"places": ["head"]},
            {"activation": "relu"},
        ],
        ids=str,
    )
    def test_records_of_another_kind(
        self, tmp_path: Path, folder: Path, change: dict[str, Any]
    ) -> None:
        path = folder / "bottleneck.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(ModelError, match=r"bottleneck\.json"):
            restore(base(tmp_path / "base"), folder)

    def test_no_json(self, tmp_path: Path, folder: Path) -> None:
        (folder / "bottleneck.json").write_text("{")
        with pytest.raises(ModelError, match=r"bottleneck\.json"):
            restore(base(tmp_path / "base"), folder)

    def test_layers_without_such_parts(self) -> None:
        config = AutoConfig.for_model(
            "opt",
            vocab_size=64,
            hidden_size=16,
            ffn_dim=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            word_embed_proj_dim=16,
            max_position_embeddings=32,
        )
        model = AutoModelForCausalLM.from_config(config)
        with pytest.raises(ModelError, match="has no part called mlp"):
            add_bottlenecks(model, width=4)
