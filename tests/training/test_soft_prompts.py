"""Soft prompts and bottleneck adapters as tuning methods: what they start from, their gradients,
what is stored, and a stage from examples to answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from soft_fakes import IDS, SOFT, N, base, made, ours, plain, stirred, stored, trained
from tiny_models import make_tokenizer
from torch.nn.functional import cross_entropy
from training_fakes import items
from transformers import AutoModelForCausalLM

from luthier.errors import ModelError
from luthier.models import adapters, soft_prompts
from luthier.training.losses import IGNORED
from luthier.training.objectives.sft import PAYS, Sft, shared_prefix
from luthier.training.recompute import recomputing


class TestStart:
    @pytest.mark.parametrize("method", SOFT)
    def test_from_words_the_model_says_what_it_says_behind_them(
        self, tiny_model: Path, method: str
    ) -> None:
        model = made(tiny_model, method, words=[70, 80, 90, 100]).eval()
        words = torch.tensor([[70, 80, 90, 100, 70, 80]] * 2)  # repeated to the length
        behind = plain(base(tiny_model), torch.cat([words, IDS], dim=1))[:, N:]
        torch.testing.assert_close(ours(model), behind, rtol=1e-4, atol=1e-5)
        cut = made(tiny_model, method, words=list(range(40, 80))).eval()
        words = torch.tensor([list(range(40, 40 + N))] * 2)
        behind = plain(base(tiny_model), torch.cat([words, IDS], dim=1))[:, N:]
        torch.testing.assert_close(ours(cut), behind, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("method", SOFT)
    def test_without_words_from_random_ones_of_the_seed(
        self, tiny_model: Path, method: str
    ) -> None:
        one = ours(made(tiny_model, method, words=(), seed=1).eval())
        torch.manual_seed(99)
        torch.testing.assert_close(ours(made(tiny_model, method, words=(), seed=1).eval()), one)
        other = ours(made(tiny_model, method, words=(), seed=2).eval())
        assert float((one - other).abs().max()) > 1e-3

    @pytest.mark.parametrize("method", SOFT)
    def test_only_the_prompt_is_trained(self, tiny_model: Path, method: str) -> None:
        model = made(tiny_model, method)
        parameters, total = adapters.counts(model)
        frozen = sum(p.numel() for p in base(tiny_model).parameters())
        assert total == frozen + parameters
        # hidden 32; two layers with keys of 2 x 8 each; both MLPs are 32 wide inside
        assert (
            parameters
            == {
                "prompt-tuning": N * 32,
                "p-tuning": N * 32 + 3 * (32 * 32 + 32),
                "prefix-tuning": N * 16 + (16 * 32 + 32) + (32 * 64 + 64),
            }[method]
        )
        assert all(n.startswith("prompt_encoder.") for n in trained(model))

    def test_an_lstm_may_encode_the_prompt(self, tiny_model: Path) -> None:
        model = stirred(made(tiny_model, "p-tuning", encoder="LSTM"))
        assert any("lstm" in name for name in trained(model))
        torch.testing.assert_close(ours(model), plain(model), rtol=1e-4, atol=1e-5)


class TestGradient:
    """The gradients are those of peft's own forward pass."""

    def reference(self, model: Any, rows: Any) -> dict[str, torch.Tensor]:
        for item in rows:
            scores = model(input_ids=torch.tensor([item.ids])).logits[0, -item.length :]
            targets = torch.tensor(item.targets)
            cross_entropy(scores, targets, reduction="sum", ignore_index=IGNORED).backward()
        return self.taken(model)

    def taken(self, model: Any) -> dict[str, torch.Tensor]:
        found = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, name
                found[name] = parameter.grad.clone()
                parameter.grad = None
            else:
                assert parameter.grad is None, name
        return found

    @pytest.mark.parametrize("method", SOFT)
    @pytest.mark.parametrize("instruction", ["", "Count the words that come. " * 12])
    def test_of_a_micro_batch(self, tiny_model: Path, method: str, instruction: str) -> None:
        model = stirred(made(tiny_model, method)).train()
        rows = items(make_tokenizer(), 5, instruction=instruction)
        # with the long instruction the rows' common beginning is computed once
        assert (shared_prefix(rows) * 4 >= PAYS) == bool(instruction)
        wanted = self.reference(model, rows)
        loss = Sft().loss(model, rows)
        loss.backward()
        found = self.taken(model)
        assert found.keys() == wanted.keys()
        assert max(float(g.abs().max()) for g in wanted.values()) > 0.1
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-3, msg=name)

    @pytest.mark.parametrize("method", ["prompt-tuning", "p-tuning"])
    def test_with_activations_computed_again(self, tiny_model: Path, method: str) -> None:
        model = stirred(made(tiny_model, method)).train()
        rows = items(make_tokenizer(), 5)
        wanted = self.reference(model, rows)
        with recomputing(model, True):
            Sft().loss(model, rows).backward()
        for name, gradient in self.taken(model).items():
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-3, msg=name)

    def test_a_prefix_needs_the_cache_that_recomputing_takes_away(self, tiny_model: Path) -> None:
        model = made(tiny_model, "prefix-tuning").train()
        with pytest.raises(ModelError, match="gradient checkpointing"), recomputing(model, True):
            pass
        model.get_base_model().gradient_checkpointing_enable()
        with pytest.raises(ModelError, match="gradient checkpointing"):
            Sft().loss(model, items(make_tokenizer(), 2))


class TestStored:
    @pytest.mark.parametrize("method", SOFT)
    def test_peft_itself_reads_it(self, tiny_model: Path, tmp_path: Path, method: str) -> None:
        from peft import PeftModel

        model = stirred(made(tiny_model, method))
        folder = stored(model, tmp_path / "s")
        theirs = PeftModel.from_pretrained(base(tiny_model), str(folder))
        torch.testing.assert_close(plain(theirs), ours(model), rtol=1e-5, atol=1e-5)
        assert float((ours(model) - plain(base(tiny_model))).abs().max()) > 0.05
        held = json.loads((folder / "adapter_config.json").read_text())
        assert held["base_model_name_or_path"] == "a-name"
        assert (held["num_virtual_tokens"], held["inference_mode"]) == (N, True)
        # what only training needs is gone
        (tensor,) = load_file(folder / "adapter_model.safetensors").values()
        assert tensor.shape == (N, 64 if method == "prefix-tuning" else 32)

    @pytest.mark.parametrize("method", SOFT)
    def test_loaded_it_says_the_same(self, tiny_model: Path, tmp_path: Path, method: str) -> None:
        model = stirred(made(tiny_model, method))
        folder = stored(model, tmp_path / "s")
        loaded = soft_prompts.restore(base(tiny_model), folder)
        torch.testing.assert_close(ours(loaded), ours(model), rtol=1e-5, atol=1e-5)
        assert soft_prompts.is_soft(loaded)
        assert not soft_prompts.is_soft(base(tiny_model))
        assert not any(p.requires_grad for p in loaded.parameters())
        assert not loaded.training
        half = soft_prompts.restore(base(tiny_model).to(torch.bfloat16), folder)
        assert float((ours(half) - ours(model)).abs().max()) < 0.2

    @pytest.mark.parametrize("method", SOFT)
    def test_merging_is_refused(self, tiny_model: Path, tmp_path: Path, method: str) -> None:
        folder = stored(stirred(made(tiny_model, method)), tmp_path / "s")
        with pytest.raises(ModelError, match="cannot be merged into weights") as error:
            adapters.merge(base(tiny_model), folder)
        assert "beside its base model" in error.value.fix

    @pytest.mark.parametrize("method", SOFT)
    @pytest.mark.parametrize("damage", ["cut", "absent", "other tensor"])
    def test_damage_is_refused(
        self, tiny_model: Path, tmp_path: Path, method: str, damage: str
    ) -> None:
        from safetensors.torch import save_file

        folder = stored(stirred(made(tiny_model, method)), tmp_path / "s")
        path = folder / "adapter_model.safetensors"
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-10])
        elif damage == "absent":
            path.unlink()
        else:
            save_file({"x": torch.zeros(2)}, path)
        with pytest.raises(ModelError, match=r"adapter_model\.safetensors"):
            soft_prompts.restore(base(tiny_model), folder)

    @pytest.mark.parametrize("method", SOFT)
    def test_another_base_is_refused(self, tiny_model: Path, tmp_path: Path, method: str) -> None:
        from transformers import AutoConfig

        folder = stored(stirred(made(tiny_model, method)), tmp_path / "s")
        config = AutoConfig.from_pretrained(tiny_model, hidden_size=64, num_hidden_layers=3)
        other = AutoModelForCausalLM.from_config(config)
        with pytest.raises(ModelError, match="does not fit the base model") as error:
            soft_prompts.restore(other, folder)
        assert "base model it was trained on" in error.value.fix
