"""Training part of a model's own parameters: which, at what cost, and how they are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_fakes import logits, move, prepared, stage
from training_fakes import items, load

from luthier.errors import InputError, ModelError
from luthier.models import adapters, frozen
from luthier.models.tuned import describe_any, load_any
from luthier.training.method import METHODS
from luthier.training.objectives.sft import Sft

EMBEDDING = "model.embed_tokens.weight"


def opened(model: Any) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def make(kind: str, **values: Any) -> Any:
    """A random model of another family, or one with a head of its own."""
    import transformers as hf

    torch.manual_seed(0)
    if kind == "gpt2":
        return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=60, n_embd=16, n_layer=3, n_head=2))
    if kind == "opt":
        config = hf.OPTConfig(
            vocab_size=60,
            hidden_size=16,
            word_embed_proj_dim=16,
            num_hidden_layers=3,
            ffn_dim=32,
            num_attention_heads=2,
            max_position_embeddings=64,
        )
        return hf.OPTForCausalLM(config)
    config = hf.LlamaConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        **values,
    )
    return hf.LlamaForCausalLM(config).eval()


class TestWhichParameters:
    def test_the_last_layers_and_the_final_norm(self, tiny_model: Path) -> None:
        model = prepared(load(tiny_model).model, "last-layers", layers=1)
        names = opened(model)
        assert "model.norm.weight" in names
        rest = names - {"model.norm.weight"}
        own = {n for n, _ in model.named_parameters() if n.startswith("model.layers.1.")}
        assert rest == own
        both = prepared(load(tiny_model).model, "last-layers", layers=2)
        everything = {n for n, _ in both.named_parameters()}
        assert opened(both) == everything - {EMBEDDING}

    @pytest.mark.parametrize(
        ("kind", "layer", "norm"),
        [
            ("gpt2", "transformer.h.2.", {"transformer.ln_f.weight", "transformer.ln_f.bias"}),
            (
                "opt",
                "model.decoder.layers.2.",
                {"model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"},
            ),
            ("llama", "model.layers.2.", {"model.norm.weight"}),
        ],
    )
    def test_of_other_families(self, kind: str, layer: str, norm: set[str]) -> None:
        names = opened(prepared(make(kind), "last-layers", layers=1))
        assert norm <= names
        assert names - norm == {n for n in names if n.startswith(layer)}
        assert names - norm

    def test_a_quarter_of_the_layers_unless_told(self, tiny_model: Path, tmp_path: Path) -> None:
        counts = [METHODS.get("last-layers")().layers(n) for n in (1, 2, 4, 5, 30, 32)]
        assert counts == [1, 1, 1, 2, 8, 8]
        assert METHODS.get("lora")().layers(30) is None
        assert stage(tiny_model, tmp_path / "a", "last-layers").config["layers"] == 1
        assert stage(tiny_model, tmp_path / "b", "lora").config["layers"] is None
        assert stage(tiny_model, tmp_path / "c", "last-layers", layers=2).config["layers"] == 2

    def test_more_layers_than_there_are(self, tiny_model: Path) -> None:
        with pytest.raises(InputError, match=r"`training.layers` is 3, and the model has 2 layers"):
            prepared(load(tiny_model).model, "last-layers", layers=3)

    def test_layers_that_are_in_no_list(self) -> None:
        class Odd(torch.nn.Module):
            config = make("llama").config

            @property
            def base_model(self) -> torch.nn.Module:
                return torch.nn.Linear(2, 2)

        with pytest.raises(ModelError, match="its 3 layers are not in a list"):
            prepared(Odd(), "last-layers")

    def test_the_embeddings_are_the_head_where_they_are_tied(self, tiny_model: Path) -> None:
        model = prepared(load(tiny_model).model, "embeddings")
        assert opened(model) == {EMBEDDING}
        assert model.lm_head.weight is model.model.embed_tokens.weight
        untied = prepared(make("llama", tie_word_embeddings=False), "embeddings")
        assert opened(untied) == {EMBEDDING}
        assert not untied.lm_head.weight.requires_grad

    def test_a_tied_head_becomes_one_of_its_own(self, tiny_model: Path) -> None:
        base = load(tiny_model).model
        before, embedding = logits(base), base.model.embed_tokens.weight.detach().clone()
        trained, total = adapters.counts(base)
        model = prepared(base, "head")
        assert opened(model) == {"lm_head.weight"}
        torch.testing.assert_close(logits(model), before)
        assert adapters.counts(model) == (embedding.numel(), total + embedding.numel())
        move(model)
        torch.testing.assert_close(model.model.embed_tokens.weight, embedding)
        assert trained == total
        own = prepared(make("llama", tie_word_embeddings=False), "head")
        assert opened(own) == {"lm_head.weight"}


class TestNothingIsComputedBelow:
    def graph(self, model: Any, tokenizer: Any, layers: list[Any]) -> list[bool]:
        """Whether each layer's output has a gradient, in a step as training takes it."""
        found: list[bool] = []
        for layer in layers:
            layer.register_forward_hook(
                lambda module, given, out: found.append(
                    (out[0] if isinstance(out, tuple) else out).grad_fn is not None
                )
            )
        model.train()
        rows = items(tokenizer, 4)
        Sft().loss(model, rows).backward()
        return found

    @pytest.mark.parametrize(
        ("method", "layers", "wanted"),
        [
            ("last-layers", 1, [False, True]),
            ("last-layers", 2, [True, True]),
            ("head", None, [False, False]),
            ("embeddings", None, [True, True]),
            ("full", None, [True, True]),
        ],
    )
    def test_the_graph_begins_at_the_lowest_trained_layer(
        self, tiny_model: Path, method: str, layers: int | None, wanted: list[bool]
    ) -> None:
        loaded = load(tiny_model)
        model = prepared(loaded.model, method, layers=layers)
        assert self.graph(model, loaded.tokenizer, list(model.model.layers)) == wanted
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name


class TestDelta:
    def test_it_holds_what_was_trained_and_names_what_it_belongs_to(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        from safetensors.torch import load_file

        stage(tiny_model, tmp_path, "last-layers")
        folder = tmp_path / "model"
        assert {p.name for p in folder.iterdir()} == {
            "delta.json",
            "delta.safetensors",
            "prompt.json",
        }
        assert json.loads((folder / "delta.json").read_text()) == {
            "format": 1,
            "method": "last-layers",
            "base": str(tiny_model),
            "untied_head": False,
        }
        held = load_file(folder / "delta.safetensors")
        assert len(held) == 10
        assert {value.dtype for value in held.values()} == {torch.float32}

    def test_an_untied_head_stays_untied(self, tiny_model: Path, tmp_path: Path) -> None:
        stage(tiny_model, tmp_path / "h", "head")
        base, info = describe_any(str(tiny_model)), describe_any(str(tmp_path / "h"))
        assert base.tied
        assert not info.tied
        assert info.parameters == base.parameters + base.embedding_parameters
        loaded = load_any(str(tmp_path / "h"), torch.float32)
        assert loaded.model.lm_head.weight is not loaded.model.model.embed_tokens.weight
        assert not loaded.model.config.tie_word_embeddings
        # and where a stage of full fine-tuning stores it whole
        stage(tmp_path / "h", tmp_path / "f", "full")
        whole = describe_any(str(tmp_path / "f"))
        assert (whole.parameters, whole.tied) == (info.parameters, False)

    def test_another_model_is_refused(self, tiny_model: Path, tmp_path: Path) -> None:
        stage(tiny_model, tmp_path, "last-layers")
        folder = tmp_path / "model"
        with pytest.raises(ModelError, match="10 of its 10 tensors have no counterpart") as error:
            adapters.merge(make("llama"), folder)
        assert "base model it was trained on" in error.value.fix

    @pytest.mark.parametrize("damage", ["cut", "absent", "empty", "version", "no json"])
    def test_damage_is_named(self, tiny_model: Path, tmp_path: Path, damage: str) -> None:
        from safetensors.torch import save_file

        stage(tiny_model, tmp_path, "last-layers")
        folder = tmp_path / "model"
        tensors, record = folder / "delta.safetensors", folder / "delta.json"
        if damage == "cut":
            tensors.write_bytes(tensors.read_bytes()[:-9])
        elif damage == "absent":
            tensors.unlink()
        elif damage == "empty":
            save_file({}, tensors)
        elif damage == "version":
            record.write_text('{"format": 2}')
        else:
            record.write_text("{")
        with pytest.raises(ModelError, match=r"damaged|no counterpart|version|not valid JSON"):
            load_any(str(tmp_path), torch.float32)

    def test_a_model_without_head_or_trained_parameters(self) -> None:
        with pytest.raises(ModelError, match="has no output head"):
            frozen.head(torch.nn.Linear(2, 2))
        with pytest.raises(ModelError, match="no parameters where"):
            frozen.train_only(torch.nn.Linear(2, 2), [])
